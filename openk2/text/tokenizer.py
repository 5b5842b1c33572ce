"""Byte-level BPE with K2's special tokens (K2 §3.1 and the released tokenizer).

Ids, from 0 up: the 256 bytes and their merges, the atoms (optional), the special tokens.
Text never becomes a special token: only `ChatFormat` and the corpus writer place those, by id.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from openk2.jobs.atomic import write_text
from openk2.text.config import TokenizerConfig

BOS = "[BOS]"
EOS = "[EOS]"
IM_END = "<|im_end|>"
IM_USER = "<|im_user|>"
IM_ASSISTANT = "<|im_assistant|>"
EOT = "[EOT]"
IM_SYSTEM = "<|im_system|>"
SECTION_BEGIN = "<|tool_calls_section_begin|>"
SECTION_END = "<|tool_calls_section_end|>"
CALL_BEGIN = "<|tool_call_begin|>"
ARGUMENT_BEGIN = "<|tool_call_argument_begin|>"
CALL_END = "<|tool_call_end|>"
IM_MIDDLE = "<|im_middle|>"
UNK = "[UNK]"
PAD = "[PAD]"

# K2's named special tokens in K2's order; its 241 unnamed ones would be half of a nano vocabulary.
SPECIAL_TOKENS = (
    BOS,
    EOS,
    IM_END,
    IM_USER,
    IM_ASSISTANT,
    EOT,
    IM_SYSTEM,
    SECTION_BEGIN,
    SECTION_END,
    CALL_BEGIN,
    ARGUMENT_BEGIN,
    CALL_END,
    IM_MIDDLE,
    UNK,
    PAD,
)

_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SPLITTINGS: Mapping[str, str] = {
    "k2": "|".join(
        (
            r"\p{Han}+",
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}",
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
    # A value must be the same ids wherever it stands, so no word is ever glued to its neighbour; small words
    # between two others and the space after a stop are one piece.
    "copy": "|".join(
        (
            r"(?: (?:a|an|and|by|for|from|has|is|its|of|the|to|with)(?= ))+ ",
            r"[.,:;?] ",
            r"[\p{L}\p{M}]+",
            r"\p{N}",
            r"[^\s\p{L}\p{M}\p{N}]",
            r"[^\S\r\n]+",
            r"[\r\n]+",
        )
    ),
}

_TOOL = '{"type":"function","function":{"name":"'
_TYPES = ("string", "integer", "number", "boolean")
# Boilerplate of tool JSON and of the chat format, fixed by their shapes: a token each, matched before splitting.
ATOMS: tuple[str, ...] = (
    # a list of tools, from its opening to its end
    "# Tools\n",
    f"[{_TOOL}",
    f",{_TOOL}",
    f'"]}}}}}},{_TOOL}',
    '","description":"',
    '","parameters":{"type":"object","properties":{',
    '","parameters":{"type":"object","properties":{"',
    *(f'":{{"type":"{name}"}}' for name in _TYPES),
    *(f'":{{"type":"{name}"}},"' for name in _TYPES),
    *(f'":{{"type":"{name}"}}}},"required":["' for name in _TYPES),
    *(f'":{{"type":"{name}","description":"' for name in _TYPES),
    '":{"type":"string","enum":["',
    '":{"type":"array","items":{"type":"string"}}',
    '"]},"',
    '"}},"required":["',
    '"]}},"required":["',
    '},"required":["',
    '},"required":[]}}}',
    '"]}}}',
    '"]}}}]',
    # arguments, records, results
    '{"',
    '":"',
    '":',
    '":["',
    '":[{"',
    '":{"',
    '","',
    ',"',
    '"}',
    '"},"',
    '"},{"',
    '},{"',
    '[{"',
    '"}]',
    '"}]}',
    '["',
    '"]',
    '"]}',
    # ids of calls
    "functions.",
    "## Return of functions.",
    # names in the headers of turns
    "tool_declare",
    "system",
    "user",
    "assistant",
    "tool",
)


class Tokenizer:
    """Text to ids and back, exactly: ``decode(encode(text)) == text`` for every string."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        special_ids = {name: backend.token_to_id(name) for name in SPECIAL_TOKENS}
        missing = [name for name, token_id in special_ids.items() if token_id is None]
        if missing:
            raise ValueError(f"the tokenizer lacks special tokens: {', '.join(missing)}")
        backend.encode_special_tokens = True  # "<|im_end|>" in a text is nine characters, not the end of a turn
        self._backend = backend
        self.special_ids: Mapping[str, int] = {
            name: token_id for name, token_id in special_ids.items() if token_id is not None
        }
        self.bos_id = self.special_ids[BOS]
        self.eos_id = self.special_ids[EOS]
        self.pad_id = self.special_ids[PAD]
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self.hash: str = hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def train(cls, texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
        """Learn the merges from ``texts``: the same texts in the same order give the same tokenizer.

        A corpus too small for ``config.vocab_size`` gives a smaller vocabulary. Raises ValueError when
        the vocabulary has no room for bytes, atoms and special tokens.
        """
        atoms = ATOMS if config.json_atoms else ()
        num_merged = config.vocab_size - len(atoms) - len(SPECIAL_TOKENS)
        if config.vocab_size < (least := least_vocab_size(config)):
            raise ValueError(f"vocab_size {config.vocab_size} is too small: bytes and fixed tokens take {least}")
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLITTINGS[config.splitting]), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=num_merged,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
        backend.train_from_iterator(_without(atoms, texts), trainer)
        backend.add_tokens([AddedToken(atom, normalized=False, special=False) for atom in atoms])
        backend.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL_TOKENS])
        return cls(backend)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``; never a special one. Lone surrogates, which are no characters, become U+FFFD."""
        return self._backend.encode(_without_surrogates(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` for many texts at once, on all cores."""
        whole = [_without_surrogates(text) for text in texts]
        return [encoding.ids for encoding in self._backend.encode_batch_fast(whole, add_special_tokens=False)]

    def encode_with_offsets(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """``encode_batch`` with, for every id, the characters of its text it covers: from, to.

        Raises UnicodeEncodeError for lone surrogates: replacing them would shift the rest.
        """
        encodings = self._backend.encode_batch(texts, add_special_tokens=False)
        return [(encoding.ids, encoding.offsets) for encoding in encodings]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ``token_ids``: special tokens by their names, broken UTF-8 as U+FFFD."""
        return self._backend.decode(token_ids, skip_special_tokens=False)

    def token_bytes(self) -> np.ndarray:
        """How many bytes of text each id stands for, [vocab_size] int64; special tokens stand for none."""
        num_bytes = np.zeros(self.vocab_size, np.int64)
        added = {token_id: str(token) for token_id, token in self._backend.get_added_tokens_decoder().items()}
        for token, token_id in self._backend.get_vocab(with_added_tokens=True).items():
            if token_id in added:
                num_bytes[token_id] = 0 if added[token_id] in self.special_ids else len(added[token_id].encode())
            else:
                num_bytes[token_id] = len(token)  # byte-level: one character a byte
        return num_bytes

    def to_json(self) -> str:
        """The whole tokenizer as Hugging Face's tokenizer.json."""
        return self._backend.to_str()

    def save(self, path: Path) -> None:
        """Write tokenizer.json, readable by Hugging Face's tokenizers and transformers."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what ``save`` wrote. Raises ValueError when the file is no such tokenizer."""
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no tokenizer.json: {error}") from error
        return cls.from_json(text, where=str(path))

    @classmethod
    def from_json(cls, text: str, where: str = "the text") -> Tokenizer:
        """Read what ``to_json`` gave. Raises ValueError when the text is no such tokenizer."""
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises no other type
            raise ValueError(f"{where} is no tokenizer.json: {error}") from error
        return cls(backend)


def least_vocab_size(config: TokenizerConfig) -> int:
    """What bytes, atoms and special tokens take, before any merge."""
    return 256 + (len(ATOMS) if config.json_atoms else 0) + len(SPECIAL_TOKENS)


def _without(atoms: Sequence[str], texts: Iterable[str]) -> Iterator[str]:
    """The texts between the atoms: merges are not spent on what has a token already."""
    pattern = re.compile("|".join(re.escape(atom) for atom in sorted(atoms, key=len, reverse=True)))
    for text in map(_without_surrogates, texts):
        yield from filter(None, pattern.split(text)) if atoms else (text,)


def _without_surrogates(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
