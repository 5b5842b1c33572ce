"""The loop of a guest process: one request on each line of stdin, one answer on each line of stdout.

    python -P serve.py FILE CLASS

makes one object of the class and calls its methods as asked. Nothing else in openk2 is imported here.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import resource
import signal
import sys
from typing import Any

MEMORY_BYTES = 4 << 30
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until stdin ends, or whoever started us does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    # What their code prints is no answer, and what it reads no request.
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    guest: Any = None
    for line in requests:
        try:
            request = json.loads(line)
            guest = guest or _made(*sys.argv[1:3])
            said = json.dumps({"result": getattr(guest, request["method"])(**request["arguments"])})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is told
            missing = error.name if guest is None and isinstance(error, ModuleNotFoundError) else None
            said = json.dumps({"error": f"{type(error).__name__}: {error}"[:2000], "missing": missing})
        answers.write(said + "\n")


def _made(file: str, name: str) -> Any:
    spec = importlib.util.spec_from_file_location("guest", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["guest"] = module
    spec.loader.exec_module(module)
    return getattr(module, name)()


if __name__ == "__main__":
    main()
