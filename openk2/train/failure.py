"""What went wrong in another process, to be raised in this one."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from typing import Self

_TOLD_IN_A_LINE = (OSError, ValueError, FloatingPointError)  # by the command, which sees them as they are


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception of another process: itself where a user is told of its kind in a line, and its traceback."""

    error: Exception | None
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """To be sent from where it was raised."""
        told = "".join(traceback.format_exception(error))
        if not isinstance(error, _TOLD_IN_A_LINE):
            return cls(None, told)
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
        except Exception:  # noqa: BLE001 - not every exception can be made again from its arguments
            return cls(None, told)
        return cls(error, told)

    def raised(self, where: str) -> Exception:
        """What to raise here."""
        if self.error is None:
            return RuntimeError(f"{where}:\n{self.traceback}")
        self.error.add_note(f"{where}:\n{self.traceback}")
        return self.error
