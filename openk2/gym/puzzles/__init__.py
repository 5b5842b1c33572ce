"""Puzzles whose solution is proved: 24-game, sudoku, cryptarithms, Morse code, riddles and zebra puzzles (K2 §3.2, logic)."""

from openk2.gym.puzzles.family import FAMILY

__all__ = ["FAMILY"]
