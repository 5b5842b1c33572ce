"""Trajectories in the formats that other training libraries read."""
