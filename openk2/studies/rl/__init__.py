"""Studies of reinforcement learning: each compares runs from one fine-tuned model that differ in one thing (K2 §3.2, §3.3)."""
