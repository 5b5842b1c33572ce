"""Where trainer ranks and replicas find and answer each other: a key-value store that one of them hosts.

torch's TCPStore with time limits that say what was waited for, errors of one line, and a socket on the loopback
interface unless told otherwise.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Self, cast

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

CONNECT_SECONDS = 20.0
# A random one, the same for all parties of one meeting and no others.
WORD = "word"
# Seconds between looks for a key.
SHORTEST_LOOK, LONGEST_LOOK = 0.0002, 0.02


class Meeting:
    """One party's connection to the store; not shared by threads."""

    def __init__(self, store: TCPStore) -> None:
        self._store = store
        self.address = f"{store.host}:{store.port}"
        # A port alone may be taken again, or at another address of the machine.
        self.name = (
            f"{store.host}-{store.port}-{self.read(WORD, CONNECT_SECONDS, 'the word of the meeting did not come')}"
        )

    @classmethod
    def host(cls, address: str = "127.0.0.1:0") -> Self:
        """Open the store here. Port 0 takes a free one, which ``address`` then names.

        Raises ValueError for an address that is none, OSError when it cannot be bound.
        """
        host, port = _parted(address)
        listening = socket.create_server((host, port), family=socket.AF_INET)
        port = listening.getsockname()[1]
        # The store takes over the descriptor.
        store = _connected(host, port, CONNECT_SECONDS, master_listen_fd=listening.detach())
        store.set(WORD, secrets.token_hex(4))
        return cls(store)

    @classmethod
    def join(cls, address: str, time_limit: float = CONNECT_SECONDS) -> Self:
        """Connect to ``host:port``. Raises ConnectionError when nobody answers within ``time_limit`` seconds."""
        host, port = _parted(address)
        return cls(_connected(host, port, time_limit))

    def post(self, key: str, value: str) -> None:
        """Set a key for everybody to read."""
        self._ask(lambda: self._store.set(key, value))

    def read(self, key: str, time_limit: float, what: str) -> str:
        """Wait for a key. Raises TimeoutError, saying ``what`` did not come, after ``time_limit`` seconds.

        Looks again after a twentieth of the time waited so far: torch's own wait prints a warning when its time is up.
        """
        began = time.monotonic()
        while (value := self.peek(key)) is None:
            waited = time.monotonic() - began
            if waited >= time_limit:
                raise TimeoutError(f"{what} within {time_limit:g} s")
            time.sleep(min(SHORTEST_LOOK + waited / 20, LONGEST_LOOK, time_limit - waited))
        return value

    def peek(self, key: str) -> str | None:
        """What a key holds now, if anything."""
        if not self._ask(lambda: self._store.check([key])):
            return None
        return cast(bytes, self._ask(lambda: self._store.get(key))).decode()

    def count(self, key: str) -> int:
        """Add one to a counter and return it: the first caller gets 1."""
        return cast(int, self._ask(lambda: self._store.add(key, 1)))

    def forget(self, keys: Iterable[str]) -> None:
        """Remove keys that nobody will read any more."""
        for key in keys:
            self._ask(lambda key=key: self._store.delete_key(key))

    def group(self, name: str, rank: int, size: int, backend: str, time_limit: float) -> dist.ProcessGroup:
        """A process group of its own, apart from torch's default group.

        Raises ValueError for a backend that is neither gloo nor nccl, RuntimeError or TimeoutError when not all came.
        """
        store, limit = PrefixStore(name, self._store), timedelta(seconds=time_limit)
        if backend == "nccl":
            return cast(Any, dist.ProcessGroupNCCL)(store, rank, size, limit)
        if backend != "gloo":
            raise ValueError(f"the backend is gloo or nccl, got {backend!r}")
        gloo = cast(Any, dist.ProcessGroupGloo)
        options = gloo._Options()
        options._timeout = limit
        # The interface that leads to the meeting: loopback unless the meeting is elsewhere.
        with socket.create_connection((self._store.host, self._store.port), timeout=time_limit) as route:
            options._devices = [gloo.create_device(hostname=route.getsockname()[0])]
        return gloo(store, rank, size, options)

    def _ask(self, call: Any) -> Any:
        try:
            return call()
        except dist.DistNetworkError as error:
            reason = str(error).partition("\n")[0]
            raise ConnectionError(f"the trainer's meeting place at {self.address} is gone ({reason})") from None
        except dist.DistStoreError:
            raise TimeoutError(f"a key at {self.address} was removed while it was read") from None


def _connected(host: str, port: int, time_limit: float, **hosting: Any) -> TCPStore:
    limit = timedelta(seconds=time_limit)
    try:
        return TCPStore(host, port, is_master=bool(hosting), timeout=limit, wait_for_workers=False, **hosting)
    except (dist.DistNetworkError, dist.DistStoreError):
        raise ConnectionError(f"nobody answered at {host}:{port} within {time_limit:g} s") from None


def _parted(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"an address is host:port, got {address!r}")
    return host, int(port)
