import asyncio
import functools
import shutil
import subprocess

import pytest

from openk2.sandbox.config import MB, Limits
from openk2.sandbox.enclosure import INSTALL
from openk2.sandbox.sandbox import Sandbox

# Little enough that a flood is stopped at once, enough for a Python program.
SMALL = Limits(cpu_s=2, wall_s=4, memory_bytes=64 * MB, processes=8, disk_bytes=8 * MB, output_bytes=100_000)


@pytest.fixture(autouse=True)
def bubblewrap():
    if why := why_no_box():
        pytest.skip(why)


@functools.cache
def why_no_box():
    """Why no box can be had here, whatever we do; empty where one can."""
    if shutil.which("bwrap") is None:
        return INSTALL
    tried = subprocess.run(
        ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, text=True, timeout=20
    )
    return f"this host lets nobody make a box: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.fixture
def python():
    """Run a Python program in a small box: what came of it."""

    def run(source, *, limits=SMALL, box=None, **given):
        box = box or Sandbox(limits)
        box.write("program.py", source.encode())
        return asyncio.run(box.run(["python3", "program.py"], **given))

    return run
