"""Authors and players of worlds by a language model behind an endpoint (K2 §3.1)."""
