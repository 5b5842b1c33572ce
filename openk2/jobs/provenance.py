"""What a measured figure needs to be believed: the code, the machine, torch, the day."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import torch

from openk2 import __version__


def provenance(device: torch.device | None = None) -> dict[str, str]:
    """Commit (and which changes to it), machine, torch, python and date."""
    on_gpu = device is not None and device.type == "cuda"
    return {
        "commit": _commit(),
        "machine": torch.cuda.get_device_name(device) if on_gpu else f"{_cpu()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def _commit() -> str:
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        top = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10)
        changes = subprocess.run([*git, "diff", "HEAD"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return f"v{__version__}"
    if top.returncode != 0:
        return f"v{__version__}"
    which = hashlib.blake2b(changes.stdout, digest_size=3).hexdigest()
    return top.stdout.strip() + (f"+{which}" if changes.stdout else "")


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return sys.platform
