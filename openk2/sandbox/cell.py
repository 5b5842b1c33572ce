"""One bwrap, up and waiting: it runs one program and is gone.

Inside waits a shell that reads what to do from its stdin. Files come and go as tar archives through two files in memory
(sealed, so that nothing inside can make them grow). Nothing inside is trusted with a limit: all are held from out here, so a
program that took over the shell would gain nothing but its own exit code and files.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import shlex
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from openk2.sandbox import seccomp
from openk2.sandbox.cgroup import Group
from openk2.sandbox.config import BARE, MB, Fittings, Limits
from openk2.sandbox.enclosure import BOX, WORK, SandboxError, arguments, enclosure

Reached = Literal["timeout", "memory", "output", "killed"]

START_S = 20.0
TICK_S = 0.05  # between two looks at memory and CPU
MOST_WATCHED = 100  # by one process that often; of more, each is looked at in proportion less often
KEEP_S = 10.0  # to pack and unpack files
OVERHEAD_BYTES = 16 * MB  # the shell, tar and the kernel's side of a box
NUM_SHELLS = 1
MAX_OPEN_FILES = 512
CHUNK = 1 << 16
_CLOCK_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Cell:
    """Start it, let it run once, close it. ``reached`` is the limit that ended it, if one did."""

    num_running = 0  # of all cells of this process

    def __init__(self, limits: Limits, fittings: Fittings = BARE) -> None:
        self.limits, self._fittings = limits, fittings
        self.reached: Reached | None = None
        self.exit_code = -9
        self.stdout, self.stderr = bytearray(), bytearray()
        self.cpu_s = 0.0
        self.peak_memory_bytes = 0
        self._process: Process | None = None
        self._group: Group | None = None
        self._first = 0  # process id of the shell, out here
        self._given = os.memfd_create("given", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._kept = os.memfd_create("kept", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # An archive has up to a page of headers and padding for each file.
        _seal(self._kept, 2 * limits.disk_bytes + MB, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)

    async def start(self) -> None:
        """Bring it up. Raises SandboxError where bubblewrap is missing or does not start."""
        coming = asyncio.create_task(self._come_up())
        try:
            await asyncio.shield(coming)
        except BaseException:
            # Not before it is up: a bwrap killed while it starts can leave a child that waits for it forever.
            await asyncio.wait([coming])
            await self.close()
            raise

    async def _come_up(self) -> None:
        try:
            async with asyncio.timeout(START_S):
                await self._spawn()
                # The kernel takes milliseconds to move a process, without work: others go on meanwhile.
                await asyncio.to_thread(self._enroll)
        except TimeoutError:
            raise SandboxError(f"bwrap did not start within {START_S:g} s") from None

    async def run(self, argv: Sequence[str], env: Mapping[str, str], given: bytes, *, has_stdin: bool) -> bytes | None:
        """Unpack ``given`` into the box, run the program, pack the work folder: its archive, or None when a limit was reached.

        With ``has_stdin`` the program reads the file ``stdin`` of the archive.
        """
        process = self._running
        os.write(self._given, given)
        _seal(self._given, len(given), fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        assert process.stdin is not None
        with suppress(ConnectionError):
            process.stdin.write(self._script(argv, env, len(given) > 0, has_stdin))
            await process.stdin.drain()
        watch = asyncio.create_task(self._watch())
        Cell.num_running += 1
        try:
            async with asyncio.timeout(self.limits.wall_s + KEEP_S):
                await asyncio.gather(
                    self._listen(process.stdout, self.stdout), self._listen(process.stderr, self.stderr)
                )
                await process.wait()
        except TimeoutError:
            self._end("timeout")
            await process.wait()
        finally:
            Cell.num_running -= 1
            watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch  # raises what kept it from looking
        self._look()
        words, told, code = bytes(self.stderr).rpartition(b"\0")
        if self.reached is None and (process.returncode != 0 or not told or not code.isdigit()):
            self.reached = "killed"
        if self.reached is not None:
            return None
        self.stderr, self.exit_code = bytearray(words), int(code)
        end = os.lseek(self._kept, 0, os.SEEK_HOLE)
        return os.pread(self._kept, end, 0)

    async def close(self) -> None:
        """End every process in it and forget its files."""
        if self._process is not None:
            process, self._process = self._process, None
            with suppress(ProcessLookupError):
                process.kill()
            assert process.stdin is not None
            process.stdin.close()  # a shell whose bwrap died before it could bind their lives together ends by this
            await process.communicate()  # to the end of its pipes, so that they are closed
        if self._group is not None:
            group, self._group = self._group, None
            await group.remove()
        for fd in (self._given, self._kept):
            if fd >= 0:
                os.close(fd)
        self._given = self._kept = -1

    @property
    def _running(self) -> Process:
        assert self._process is not None, "start comes first"
        return self._process

    async def _spawn(self) -> None:
        host = enclosure()
        user = host.user()
        (filter_end, filter_in), (info, info_end) = os.pipe(), os.pipe()
        try:
            os.write(filter_in, seccomp.program())
            os.close(filter_in)
            self._process = await asyncio.create_subprocess_exec(
                host.bwrap, *arguments(self.limits, self._fittings, seccomp_fd=filter_end, info_fd=info_end),
                stdin=PIPE, stdout=PIPE, stderr=PIPE, env={}, pass_fds=(filter_end, info_end, self._given, self._kept),
                user=user, group=user, extra_groups=None if user is None else [],
            )  # fmt: skip
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            with suppress(ConnectionError):
                process.stdin.write(_ulimits(self.limits))
                await process.stdin.drain()
            if await process.stdout.read(1) != b"\n":
                words = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
                raise SandboxError(f"bwrap does not start: {words[-1] if words else 'it ended without a word'}")
            self._first = int(json.loads(os.read(info, 4096))["child-pid"])
        finally:
            for fd in (filter_end, info, info_end):
                os.close(fd)

    def _enroll(self) -> None:
        """Put the shell, and so whatever it will start, into a group."""
        limits, groups = self.limits, enclosure().groups
        if groups is not None:
            memory = limits.memory_bytes + limits.disk_bytes + OVERHEAD_BYTES
            self._group = Group(groups, processes=limits.processes + NUM_SHELLS, memory_bytes=memory)
            self._group.add(self._first)

    def _script(self, argv: Sequence[str], env: Mapping[str, str], has_files: bool, has_stdin: bool) -> bytes:
        """What the shell does. The program's exit code comes last on stderr, after a zero byte."""
        unpack = f"tar -xipf /proc/self/fd/{self._given} -C {BOX} || exit 1\n" if has_files else ""
        exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in env.items())
        stdin = f"{BOX}/stdin" if has_stdin else "/dev/null"
        return (
            f"{unpack}({exports}exec {shlex.join(argv)}) <{stdin}\ncode=$?\nkill -KILL -1 2>/dev/null\n"
            # Half of all boxes hold no file in the end, and tar is the most that is left to do.
            f"full=; for file in {WORK}/* {WORK}/.[!.]* {WORK}/..?*; do [ ! -e \"$file\" ] && [ ! -L \"$file\" ] || full=1; done\n"
            f"[ -z $full ] || tar -cf - -C {BOX} work 1<>/proc/self/fd/{self._kept} 2>/dev/null || exit 1\n"
            r"printf '\0%d' $code >&2; exit 0"
            "\n"
        ).encode()  # fmt: skip

    async def _listen(self, said: asyncio.StreamReader | None, heard: bytearray) -> None:
        assert said is not None
        while data := await said.read(CHUNK):
            room = self.limits.output_bytes + 4 - len(self.stdout) - len(self.stderr)  # 4: the exit code
            heard += data[: max(room, 0)]
            if len(data) > room:
                self._end("output")

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(TICK_S * max(1.0, Cell.num_running / MOST_WATCHED))
            self._look()
            if self.cpu_s > self.limits.cpu_s or clock() - began > self.limits.wall_s:
                self._end("timeout")

    def _look(self) -> None:
        """Note memory and CPU: the group's where there is one, the sums over the living where not."""
        cpu = peak = None
        if self._group is not None:
            cpu, peak = self._group.cpu_s(), self._group.peak_bytes()
            if self._group.num_oom_kills():
                self._end("memory")
        if cpu is None or peak is None:
            memory, cpu_of_all = self._sums()
            if memory > self.limits.memory_bytes:
                self._end("memory")
            cpu, peak = (cpu_of_all if cpu is None else cpu), (memory if peak is None else peak)
        self.cpu_s, self.peak_memory_bytes = max(self.cpu_s, cpu), max(self.peak_memory_bytes, peak)

    def _sums(self) -> tuple[int, float]:
        """Memory (shared pages counted by each) and CPU of all processes inside, from the box's own /proc."""
        memory, ticks = 0, 0
        proc = Path(f"/proc/{self._first}/root/proc")
        with suppress(OSError):
            for name in os.listdir(proc):
                if name.isdigit():
                    with suppress(OSError):  # it has just ended
                        fields = (proc / name / "stat").read_bytes().rpartition(b")")[2].split()
                        ticks += sum(map(int, fields[11:15]))
                        memory += int(fields[21]) * _PAGE
        return memory, ticks / _CLOCK_TICKS

    def _end(self, reached: Reached) -> None:
        self.reached = self.reached or reached
        with suppress(ProcessLookupError):
            self._running.kill()


def _ulimits(limits: Limits) -> bytes:
    """What the shell does first: limit itself, and so whatever it will start; then say so."""
    lines = []
    for option, which, value in (
        # Processes: -u in bash, -p in dash.
        ("-u {0} 2>/dev/null || ulimit -p", resource.RLIMIT_NPROC, limits.processes + NUM_SHELLS),
        ("-d", resource.RLIMIT_DATA, limits.memory_bytes),
        ("-t", resource.RLIMIT_CPU, int(limits.cpu_s) + 2),  # should we be kept from looking
        ("-n", resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        ("-c", resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        value = value // 1024 if option == "-d" else value
        lines.append(f"ulimit {option.format(value)} {value} || exit 1\n")
    return "".join([*lines, "echo\n"]).encode()


def _seal(fd: int, size: int, how: int) -> None:
    """Fix a file in memory at a size."""
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, how | fcntl.F_SEAL_SEAL)
