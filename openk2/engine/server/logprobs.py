"""Log-probabilities in OpenAI's two shapes, in step with the text that is shown."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from openk2.engine.request import Drawn
from openk2.engine.server.vocabulary import Vocabulary

JSON = dict[str, Any]


def chat_logprob(drawn: Drawn, vocabulary: Vocabulary) -> JSON:
    """An entry of ``choices[].logprobs.content``."""
    return {
        **_entry(drawn.token_id, drawn.logprob, vocabulary),
        "top_logprobs": [_entry(token_id, logprob, vocabulary) for token_id, logprob in drawn.top],
    }


def _entry(token_id: int, logprob: float, vocabulary: Vocabulary) -> JSON:
    return {
        "token": vocabulary.text_of(token_id),
        "logprob": max(logprob, -9999.0),  # JSON has no infinity; OpenAI says -9999 too
        "bytes": list(vocabulary.bytes_of(token_id)),
    }


class CompletionLogprobs:
    """Entries of ``/v1/completions``: parallel lists. ``text_offset`` is where each token begins in the text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def first(self, token_id: int) -> JSON:
        """A prompt's first token, which nothing predicts."""
        return self._shape([token_id], [None], [None])

    def of(self, drawn: Iterable[Drawn]) -> JSON:
        """The next tokens."""
        rows = list(drawn)
        tops = [{self._vocabulary.text_of(token_id): max(p, -9999.0) for token_id, p in row.top} for row in rows]
        return self._shape([row.token_id for row in rows], [max(row.logprob, -9999.0) for row in rows], tops)

    def _shape(self, ids: Sequence[int], logprobs: Sequence[float | None], tops: Sequence[JSON | None]) -> JSON:
        offsets = []
        for token_id in ids:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(self._vocabulary.bytes_of(token_id)))
        tokens = [self._vocabulary.text_of(token_id) for token_id in ids]
        return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


def joined(parts: Iterable[JSON]) -> JSON:
    """Parallel lists put end to end."""
    out: JSON = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for part in parts:
        for key, values in part.items():
            out[key].extend(values)
    return out
