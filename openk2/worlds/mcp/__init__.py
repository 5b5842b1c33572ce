"""Real tools over the Model Context Protocol, and declarations crawled from it (K2 §3.1)."""
