"""Verified dialogues as packed rows: shuffled each epoch, resumable at the exact row (K2 §3.1)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openk2.schema import Message, ToolSpec
from openk2.text.chat import ChatFormat, Encoded
from openk2.text.packing import Packed, Rows, pack


def read_dialogues(path: Path, chat: ChatFormat) -> list[Encoded]:
    """Encode every line of a JSONL file with ``messages`` and ``tools``. Raises ValueError naming a bad line."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: it holds the dialogues to learn from")
    dialogues = []
    with path.open() as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                messages = [Message.from_json(message) for message in row["messages"]]
                tools = [ToolSpec.from_json(tool) for tool in row["tools"]]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number} is no dialogue with messages and tools: {error}") from error
            dialogues.append(chat.encode(messages, tools))
    if not dialogues:
        raise ValueError(f"{path} is empty: no dialogue to learn from")
    return dialogues


class DialogueStream:
    """Endless batches of ``batch_rows`` packed rows. A permutation of its own for every epoch."""

    def __init__(
        self, dialogues: Sequence[Encoded], *, row_length: int, batch_rows: int, pad_id: int, seed: int
    ) -> None:
        self.dialogues, self.row_length, self.batch_rows = dialogues, row_length, batch_rows
        self.pad_id, self.seed = pad_id, seed
        self.epoch, self.row = 0, 0
        self._packed = self._pack(0)

    def __iter__(self) -> Iterator[Rows]:
        while True:
            yield self.next_rows()

    def next_rows(self) -> Rows:
        """The next batch; what is left of an epoch when it no longer fills a batch is skipped."""
        if self.row + self.batch_rows > len(self._packed.tokens):
            self.epoch, self.row = self.epoch + 1, 0
            self._packed = self._pack(self.epoch)
        part = slice(self.row, self.row + self.batch_rows)
        self.row += self.batch_rows
        packed = self._packed
        return Rows(packed.tokens[part], packed.loss_mask[part], packed.doc_ids[part], packed.positions[part])

    @property
    def epochs(self) -> float:
        """How often the dialogues have been gone through so far."""
        return self.epoch + self.row / len(self._packed.tokens)

    def batch_ids(self) -> str:
        """The rows given last."""
        return f"epoch {self.epoch}, rows {self.row - self.batch_rows}..{self.row - 1}"

    def state_dict(self) -> dict[str, Any]:
        """Epoch and row."""
        return {"epoch": self.epoch, "row": self.row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after that row of that epoch."""
        self.epoch, self.row = state["epoch"], state["row"]
        self._packed = self._pack(self.epoch)

    def _pack(self, epoch: int) -> Packed:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dialogues))
        picked = (self.dialogues[index] for index in order)
        packed = pack(
            ((dialogue.token_ids, dialogue.loss_mask) for dialogue in picked),
            self.row_length,
            pad_id=self.pad_id,
            overlong="drop",
        )
        if len(packed.tokens) < self.batch_rows:
            raise ValueError(
                f"{len(self.dialogues)} dialogues fill {len(packed.tokens)} rows of {self.row_length} tokens, "
                f"a batch needs {self.batch_rows}"
            )
        return packed
