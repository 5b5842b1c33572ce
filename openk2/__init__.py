"""openk2: the Kimi K2 training system, from raw text to a tool-using agent."""

__version__ = "0.1.0"
