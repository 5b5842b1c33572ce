"""Tools that execute over state, tasks and teachers (K2 §3.1)."""
