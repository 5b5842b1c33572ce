from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from openk2.gym.adapters.guest import Guest, GuestError, GuestHungError

THEIRS = """
import os, subprocess, sys, time

class Guest:
    def __init__(self): self.count = 0
    def add(self, number): self.count += number; return self.count
    def shout(self): print("not an answer"); sys.stdout.flush(); os.system("echo neither"); return "said"
    def listen(self): return sys.stdin.read()
    def fail(self): raise KeyError("lost")
    def leave(self): sys.exit(3)
    def die(self): os._exit(3)
    def hang(self): time.sleep(1000)
    def child(self): return subprocess.Popen(["sleep", "1000"]).pid
    def flood(self): return len(bytearray(8 << 30))
    def odd(self): return {1, 2}
"""


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    file = tmp_path / "theirs.py"
    file.write_text(THEIRS)
    return Guest(file, "theirs", sys.executable)


def gone(pid: int) -> bool:
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")")[1].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_it_answers_and_keeps_its_state(guest: Guest) -> None:
    assert [guest.ask_now("add", 5, number=2), guest.ask_now("add", 5, number=3)] == [2, 5]


def test_what_it_prints_is_no_answer_and_there_is_nothing_to_read(guest: Guest) -> None:
    assert (guest.ask_now("shout", 5), guest.ask_now("listen", 5)) == ("said", "")


@pytest.mark.parametrize(
    ("method", "said"),
    [("fail", "KeyError: 'lost'"), ("leave", "SystemExit"), ("die", "died"), ("flood", "MemoryError"), ("odd", "TypeError"), ("none", "AttributeError")],
)  # fmt: skip
def test_what_it_raises_is_told(guest: Guest, method: str, said: str) -> None:
    with pytest.raises(GuestError, match=said):
        guest.ask_now(method, 5)
    assert guest.ask_now("add", 5, number=1) == 1


def test_one_that_hangs_is_killed_with_all_it_started_and_the_loop_goes_on(guest: Guest) -> None:
    async def both() -> tuple[int, int]:
        child = await guest.ask("child", 5)
        hanging = asyncio.create_task(guest.ask("hang", 0.5))
        ticks = 0
        while not hanging.done():
            await asyncio.sleep(0.01)
            ticks += 1
        with pytest.raises(GuestHungError, match=r"no answer within 0\.5 s"):
            await hanging
        return child, ticks

    child, ticks = asyncio.run(both())
    assert ticks > 10
    assert gone(child)
    assert guest.ask_now("add", 5, number=1) == 1


def test_a_forgotten_one_ends(guest: Guest, tmp_path: Path) -> None:
    other = Guest(tmp_path / "theirs.py", "theirs", sys.executable)
    child = other.ask_now("child", 5)
    assert os.path.exists(f"/proc/{child}")
    other.end()
    assert gone(child)


def test_a_missing_package_is_named_with_what_to_install(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text("import openk2_is_not_here")
    with pytest.raises(ValueError, match=r"has no package openk2_is_not_here: .* -m pip install theirs"):
        Guest(file, "theirs", sys.executable).ask_now("any", 5)


def test_what_comes_first_is_asked_of_each_process(guest: Guest, tmp_path: Path) -> None:
    begun = Guest(tmp_path / "theirs.py", "theirs", sys.executable, first=("add", {"number": 10}, 5))
    assert [begun.ask_now("add", 5, number=1), begun.ask_now("add", 5, number=1)] == [11, 12]
    begun.end()
    assert begun.ask_now("add", 5, number=1) == 11
    failing = Guest(tmp_path / "theirs.py", "theirs", sys.executable, first=("fail", {}, 5))
    for _ in range(2):
        with pytest.raises(GuestError, match="KeyError"):
            failing.ask_now("add", 5, number=1)
