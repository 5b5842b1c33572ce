"""A tokenizer as a server needs it: text to ids, each id's own bytes, and the same ids for grammars."""

from __future__ import annotations

from collections.abc import Collection

import tokenizers
from llguidance import LLTokenizer


class Vocabulary:
    """The ids of a model and the bytes they stand for.

    Special tokens stand for their names, ids beyond the tokenizer for nothing.
    """

    def __init__(self, tokenizer_json: str, num_ids: int, stop_ids: Collection[int]) -> None:
        """``tokenizer_json`` is Hugging Face's tokenizer.json, byte-level; ``num_ids`` is the model's vocabulary.

        Raises ValueError when the text is no such tokenizer.
        """
        try:
            self._backend = tokenizers.Tokenizer.from_str(tokenizer_json)
        except Exception as error:
            raise ValueError(f"tokenizer.json cannot be read: {error}") from error
        self._backend.encode_special_tokens = True  # a text is never the end of a turn
        self.size = num_ids
        self.stop_ids = frozenset(stop_ids)
        # Grammars end at a stop id. A model without any is never given a grammar, but the library wants one.
        self.for_grammars = LLTokenizer(tokenizer_json, n_vocab=num_ids, eos_token=sorted(self.stop_ids) or [0])
        known = min(self._backend.get_vocab_size(with_added_tokens=True), num_ids)
        self._bytes = [self._bytes_of(token_id) for token_id in range(known)]
        self._longest = max(map(len, self._bytes))

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``; never a special one."""
        # As a batch of one: `encode` keeps other threads waiting, this does not.
        return self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def fewest_ids(self, num_characters: int) -> int:
        """No text of this length has fewer ids, whatever it says."""
        if self._backend.normalizer is not None:  # it may shorten a text
            return 0
        return -(-num_characters // self._longest)

    def bytes_of(self, token_id: int) -> bytes:
        """What one id stands for; not always a whole character."""
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def text_of(self, token_id: int) -> str:
        """One id as a text of its own, in OpenAI's way: a broken character reads ``bytes:`` and its hex."""
        data = self.bytes_of(token_id)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _bytes_of(self, token_id: int) -> bytes:
        # 0xFF marks special tokens inside llguidance, so the lone byte, which no UTF-8 holds, reads as nothing there.
        return self.for_grammars.decode_bytes([token_id]) or b"\xff"
