"""Reinforcement learning: one loop, two kinds of reward, rollouts that never wait."""
