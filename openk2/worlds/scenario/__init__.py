"""Long tasks over several evolved apps: agents, users, faults, and trajectories that are verified (K2 §3.1)."""
