"""Apps by the thousand tools: categories grow applications, applications entities, entities tools (K2 §3.1)."""
