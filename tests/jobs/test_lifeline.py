"""Workers whose parent is killed end with it, also in the middle of their work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openk2.jobs.lifeline import end_with_parent

BUSY = """
import sys, time
from openk2.jobs.lifeline import end_when_closed
end_when_closed(int(sys.argv[1]), seconds=0.3)
print("begun", flush=True)
time.sleep(60)
"""

PARENT = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from openk2.jobs.lifeline import end_with_parent
from tests.jobs.test_lifeline import go_on

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=end_with_parent) as pool:
        for number in range(3):
            pool.submit(go_on, Path({folder!r}), number)
"""


def go_on(folder: Path, number: int) -> None:
    (folder / str(number)).write_text(str(os.getpid()))
    time.sleep(60)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def waited_for(what: Path) -> str:
    deadline = time.monotonic() + 60
    while not (what.exists() and what.read_text()):
        assert time.monotonic() < deadline, f"waited a minute for {what}"
        time.sleep(0.05)
    return what.read_text()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_a_killed_parent_takes_its_workers_along(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": os.getcwd()})
    worker = int(waited_for(tmp_path / "0"))
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    deadline = time.monotonic() + 10
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker)
    assert not (tmp_path / "1").exists(), "what lay in its queue was not begun"


def test_a_busy_process_ends_when_nobody_holds_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", BUSY, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    time.sleep(0.5)
    assert process.poll() is None, "it goes on while the other end is held"
    ours.send(b"work")
    ours.close()
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()


def test_who_has_no_parent_is_told() -> None:
    with pytest.raises(ValueError, match="not started by multiprocessing"):
        end_with_parent()
