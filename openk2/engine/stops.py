"""Ending a sequence at a text, which may lie across tokens."""

from __future__ import annotations

from collections.abc import Sequence

from openk2.text.tokenizer import Tokenizer


class StopWatch:
    """Looks for the texts of ``stops`` in what has been drawn."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], before: Sequence[int] = ()) -> None:
        """``before``: tokens drawn earlier, in which a stop may have begun. Raises ValueError for an empty text."""
        if not all(stops):
            raise ValueError("sampling.stop holds an empty text: every answer would end before it began")
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        # A token is a byte at least, so a text of n bytes lies within n tokens.
        self._window = max(len(stop.encode()) for stop in stops)
        self._recent = list(before[-self._window :])

    def ends_with(self, token_id: int) -> str | None:
        """The stop text that this token completes, the earliest where there are several; None for none."""
        self._recent = [*self._recent, token_id][-self._window :]
        text = self._tokenizer.decode(self._recent)
        found = [(text.index(stop), stop) for stop in self._stops if stop in text]
        return min(found)[1] if found else None
