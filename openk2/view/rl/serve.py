"""Show a run's reinforcement learning as a page on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from openk2.view.loopback import Server, address, listen
from openk2.view.rl.app import application
from openk2.view.rl.read import Learning


def watch(run_dir: Path, port: int, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM. ``port`` 0 takes any free one; ``say`` gets the address.

    The run may not have begun to learn. Raises ValueError for what is no run's folder or no port, OSError for a port
    that cannot be had.
    """
    if not (run_dir / "recipe.toml").is_file() and not (run_dir / "rl").is_dir():
        raise ValueError(f"{run_dir} is no run's folder: it has neither recipe.toml nor rl/")
    with contextlib.closing(listen(port)) as listening:
        app = application(Learning(run_dir))
        say(f"{run_dir} on {address(listening)}")
        Server(app).run([listening])
