"""Looking inside reinforcement learning: what a run writes while it learns, as figures, a live page and a part of the report."""
