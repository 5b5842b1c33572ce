import asyncio
import shutil

import pytest

from openk2.sandbox.config import MB, Limits
from openk2.sandbox.enclosure import INSTALL, enclosure
from openk2.sandbox.sandbox import Sandbox

# Little enough that a flood is stopped at once, enough for a Python program.
SMALL = Limits(cpu_s=2, wall_s=4, memory_bytes=64 * MB, processes=8, disk_bytes=8 * MB, output_bytes=100_000)


@pytest.fixture(autouse=True)
def bubblewrap():
    if shutil.which("bwrap") is None:
        pytest.skip(INSTALL)
    enclosure()  # a host that has it but forbids it fails, and says why


@pytest.fixture
def python():
    """Run a Python program in a small box: what came of it."""

    def run(source, *, limits=SMALL, box=None, **given):
        box = box or Sandbox(limits)
        box.write("program.py", source.encode())
        return asyncio.run(box.run(["python3", "program.py"], **given))

    return run
