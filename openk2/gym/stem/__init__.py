"""Mathematics and the sciences: problems with one exact answer, in whatever form it is given (K2 §3.2, math and STEM)."""

from openk2.gym.stem.family import FAMILY

__all__ = ["FAMILY"]
