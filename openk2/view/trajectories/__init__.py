"""Trajectory files: read without loading them whole, browsed in a page, printed in the terminal."""
