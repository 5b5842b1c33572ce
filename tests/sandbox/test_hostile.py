"""Programs that want out, or more than their share. Each test fails when the limit it is about is taken away."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from openk2.sandbox import cell as cell_file
from openk2.sandbox.cell import Cell
from openk2.sandbox.config import MB
from openk2.sandbox.enclosure import enclosure
from openk2.sandbox.sandbox import Sandbox

from .conftest import SMALL

FLOOD_MEMORY = "blocks = []\nwhile True:\n    blocks.append(bytearray(b'x' * 1_000_000))"
FLOOD_BY_MANY = """
import mmap, os, time
for _ in range(6):
    if os.fork() == 0:
        shared = mmap.mmap(-1, 30_000_000)
        shared.write(b'x' * 30_000_000)
        time.sleep(30)
time.sleep(30)
"""
BUSY_BY_MANY = "import os\nfor _ in range(2): os.fork()\nwhile True: pass"
without_groups = pytest.fixture(
    lambda monkeypatch: monkeypatch.setattr(cell_file, "enclosure", lambda: replace(enclosure(), groups=None))
)


def left_behind(mark):
    """Processes on this host with a word on their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_a_fork_bomb_is_stopped_and_leaves_nothing(python):
    result = python(
        "import os, sys, time\nn = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(30); os._exit(0)\n"
        "        n += 1\nexcept OSError: print(n)"
    )
    assert result.outcome == "ok"
    assert 0 < int(result.stdout) < SMALL.processes
    bomb = asyncio.run(Sandbox(SMALL).run(["sh", "-c", "bomb_4711() { bomb_4711 | bomb_4711 & }; bomb_4711; sleep 3"]))
    assert bomb.outcome in ("ok", "failed", "timeout", "killed", "memory")
    assert not left_behind(b"bomb_4711")


def test_threads_count_as_processes(python):
    source = (
        "import threading, time\nn = 0\ntry:\n    while n < 100:\n"
        "        threading.Thread(target=time.sleep, args=(5,), daemon=True).start(); n += 1\n"
        "except RuntimeError: pass\nprint(n, flush=True)\nimport os; os._exit(0)"
    )
    assert int(python(source).stdout) < SMALL.processes


def test_a_memory_flood_ends(python):
    result = python(FLOOD_MEMORY)
    assert result.outcome in ("memory", "failed")  # killed, or told that there is no more
    assert result.peak_memory_bytes < SMALL.memory_bytes + SMALL.disk_bytes + 32 * MB


def test_a_memory_flood_by_many_ends(python):
    assert python(FLOOD_BY_MANY).outcome == "memory"


def test_memory_that_belongs_to_no_process_cannot_be_had(python):
    source = "import os\ntry: os.memfd_create('x'); print('had it')\nexcept OSError as error: print(error.errno)"
    assert python(source).stdout == b"1\n"


def test_a_disk_flood_meets_a_full_disk(python):
    source = (
        "n = 0\nfor place in ('.', '/tmp', '/dev/shm', '/box'):\n    try:\n        with open(place + '/flood', 'wb', 0) as file:\n"
        "            while True: n += file.write(b'x' * 65536)\n    except OSError as error: print(error.errno)\nprint(n)"
    )
    result = python(source)
    *errors, total = map(int, result.stdout.split())
    assert errors == [28] * 4  # no space left, in all of them together
    assert total <= SMALL.disk_bytes
    assert result.outcome == "ok"


def test_nothing_outside_the_box_folder_can_be_written(python):
    source = (
        "import os\nfor place in ('/', '/dev', '/usr', '/etc', '/proc/sys/kernel', '/opt', os.path.dirname(os.__file__)):\n"
        "    try: open(place + '/x', 'w'); print('wrote', place)\n    except OSError: pass\n"
        "for file in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/1/oom_score_adj'):\n"
        "    try: open(file, 'r+').close(); print('opened', file)\n    except OSError: pass"
    )
    assert python(source).stdout == b""


def test_an_output_flood_is_cut(python):
    began = time.monotonic()
    result = python("import sys\nwhile True: sys.stdout.write('x' * 10000); sys.stderr.write('y' * 10000)")
    assert result.outcome == "output"
    assert len(result.stdout) + len(result.stderr) <= SMALL.output_bytes + 4
    assert time.monotonic() - began < SMALL.wall_s


def test_a_busy_loop_that_ignores_sigterm_ends(python):
    result = python("import signal\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass")
    assert result.outcome == "timeout"
    assert SMALL.cpu_s <= result.cpu_s < SMALL.cpu_s + 1 or result.wall_s >= SMALL.wall_s


def test_cpu_is_counted_over_all_processes(python):
    result = python(BUSY_BY_MANY, limits=SMALL.model_copy(update={"wall_s": 30.0}))
    assert result.outcome == "timeout"
    assert result.cpu_s < SMALL.cpu_s + 1
    assert result.wall_s < 20


def test_sleeping_costs_wall_time(python):
    result = python("import time\ntime.sleep(60)", limits=SMALL.model_copy(update={"wall_s": 0.5}))
    assert result.outcome == "timeout"
    assert result.wall_s < 3


@pytest.mark.usefixtures("without_groups")
@pytest.mark.parametrize(("source", "outcome"), [(FLOOD_BY_MANY, "memory"), (BUSY_BY_MANY, "timeout")])
def test_without_cgroups_the_sums_over_all_processes_hold(python, source, outcome):
    limits = SMALL.model_copy(update={"wall_s": 30.0})
    began = time.monotonic()
    assert python(source, limits=limits).outcome == outcome
    assert time.monotonic() - began < 20


@pytest.mark.usefixtures("without_groups")
def test_without_cgroups_a_process_is_refused_memory(python):
    result = python(FLOOD_MEMORY)
    assert result.outcome == "memory" or b"MemoryError" in result.stderr


def test_there_is_no_network(python):
    source = """
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, 40):
    try: socket.socket(family, socket.SOCK_STREAM); print('opened', family)
    except OSError as error: assert error.errno == 97, error
a, b = socket.socketpair()
a.send(b'x'); assert b.recv(1) == b'x'
print(open('/proc/net/dev').read().count(':'))
"""
    assert python(source).stdout == b"1\n"  # lo, which is down


def test_host_secrets_are_out_of_sight(python, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("4711")
    monkeypatch.setenv("OPENK2_SECRET", "4711")
    source = f"""
import os
for place in ({str(tmp_path)!r}, '/etc/passwd', '/etc/shadow', '/home', '/var', '/sys', '/run', '/root/.ssh', '/mnt', {os.getcwd()!r}):
    if os.path.exists(place): print('sees', place)
assert 'OPENK2_SECRET' not in os.environ
for pid in filter(str.isdigit, os.listdir('/proc')):
    if b'OPENK2_SECRET' in open(f'/proc/{{pid}}/environ', 'rb').read(): print('sees the environment of', pid)
print(len([pid for pid in os.listdir('/proc') if pid.isdigit()]))
"""
    result = python(source)
    assert result.stdout.split() in ([b"2"], [b"3"]), result  # the shell, the program


REFUSED = {  # numbers for x86_64, aarch64, and arguments
    "ptrace": (101, 117, (16, 1, 0, 0)), "mount": (165, 40, (b"none", b"/box/tmp", b"tmpfs", 0, 0)),
    "umount2": (166, 39, (b"/box", 0, 0)), "unshare": (272, 97, (0x10000000,)), "setns": (308, 268, (0, 0)),
    "clone": (56, 220, (0x10000011, 0, 0, 0, 0)), "keyctl": (250, 219, (0, 0, 0)), "bpf": (321, 280, (0, 0, 0)),
    "perf_event_open": (298, 241, (0, 0, 0)), "io_uring_setup": (425, 425, (1, 0)), "chroot": (161, 51, (b"/box",)),
    "process_vm_readv": (310, 270, (1, 0, 0, 0, 0, 0)), "pivot_root": (155, 41, (b"/box", b"/box/tmp")),
    "fsopen": (430, 430, (b"tmpfs", 0)), "userfaultfd": (323, 282, (0,)), "shmget": (29, 194, (0, 4096, 0o1600)),
    "pidfd_getfd": (438, 438, (0, 0, 0)), "open_by_handle_at": (304, 265, (0, 0, 0)), "add_key": (248, 217, (0, 0, 0, 0, 0)),
}  # fmt: skip


def test_refused_calls_fail_with_eperm(python):
    which = 1 if os.uname().machine == "aarch64" else 0
    calls = {name: (numbers[which], numbers[2]) for name, numbers in REFUSED.items()}
    source = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name, (number, arguments) in {calls!r}.items():
    done = libc.syscall(number, *arguments)
    if name == 'clone' and done == 0: libc._exit(0)
    if (done, ctypes.get_errno()) != (-1, 1): print(name, done, ctypes.get_errno())
print(libc.syscall(435, 0, 0), ctypes.get_errno())
"""
    assert python(source).stdout == b"-1 38\n"  # clone3 is not there


def test_namespaces_cannot_be_nested():
    for tool in (["unshare", "--user", "--map-root-user", "true"], ["bwrap", "--ro-bind", "/", "/", "true"]):
        assert asyncio.run(Sandbox(SMALL).run(tool)).outcome == "failed"


def test_capabilities_are_gone_and_nothing_brings_them_back(python):
    source = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNewPrivs'))])"
    assert eval(python(source).stdout) == ["0" * 16] * 5 + ["1"]  # noqa: S307 - of digits alone


def test_killing_the_parent_does_not_help(python):
    source = """
import os, signal
for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGHUP):
    os.kill(1, number)
os.kill(os.getppid(), signal.SIGKILL)
open('written', 'w').write('later')
"""
    box = Sandbox(SMALL)
    assert python(source, box=box).outcome == "ok"
    assert box.read("written") == b"later"


def test_links_lead_nowhere_outside(python):
    Path("/tmp/openk2-outside").write_text("4711")
    try:
        box = Sandbox(SMALL)
        source = "import os\nos.symlink('/tmp/openk2-outside', 'link')\nos.symlink('/', 'root')\nos.link('program.py', 'hard')"
        assert python(source, box=box).outcome == "ok"
        assert b"4711" not in b"".join(box.files().values())
        box.write("link", b"changed")
        box.write("root/tmp/openk2-outside", b"changed")
        asyncio.run(box.run(["true"]))
        assert Path("/tmp/openk2-outside").read_text() == "4711"
    finally:
        Path("/tmp/openk2-outside").unlink()


def test_who_takes_over_the_shell_gains_only_its_own_files(python):
    source = """
import os, glob
for name in os.listdir('/proc/self/fd'):
    try: os.pwrite(int(name), b'junk' * 4096, 0)
    except OSError: pass
for name in os.listdir('/proc/self/fd'):
    try: os.ftruncate(int(name), 1 << 34); print('grew', name)
    except OSError: pass
"""
    box = Sandbox(SMALL)
    assert b"grew" not in python(source, box=box).stdout
    assert list(box.files()) == ["program.py"]


def test_background_processes_end_with_the_run(python):
    result = python("import subprocess\nsubprocess.Popen(['sleep', '4711'], start_new_session=True)\nprint('done')")
    assert (result.outcome, result.stdout) == ("ok", b"done\n")
    assert result.wall_s < 3
    assert not left_behind(b"sleep\x004711")


def test_a_run_that_reaches_a_limit_changes_no_file(python):
    box = Sandbox(SMALL.model_copy(update={"wall_s": 1.0}))
    assert python("open('new', 'w').write('x')\nwhile True: pass", box=box).outcome == "timeout"
    assert list(box.files()) == ["program.py"]


def test_what_was_started_dies_with_us_even_by_sigkill(tmp_path):
    source = (
        "import asyncio\nfrom openk2.sandbox.sandbox import Sandbox\nprint('up', flush=True)\n"
        "asyncio.run(Sandbox().run(['sleep', '4712']))"
    )
    parent = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert parent.stdout.readline() == b"up\n"
    deadline = time.monotonic() + 10
    while not left_behind(b"sleep\x004712") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_behind(b"sleep\x004712")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 5
    while left_behind(b"sleep\x004712"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_cancelled_run_leaves_nothing():
    async def main():
        task = asyncio.create_task(Sandbox().run(["sleep", "4713"]))
        while not left_behind(b"sleep\x004713"):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not left_behind(b"sleep\x004713")


def test_groups_and_files_in_memory_are_given_back():
    before = set(os.listdir("/proc/self/fd"))
    groups = enclosure().groups
    folders = set() if groups is None else set(groups.folders.values())

    async def main():
        for _ in range(3):
            await Sandbox(SMALL).run(["true"])
        cell = Cell(SMALL)
        await cell.start()
        await cell.close()

    asyncio.run(main())
    assert set(os.listdir("/proc/self/fd")) == before
    assert not [left for folder in folders for left in folder.glob(f"openk2-{os.getpid()}-*")]
