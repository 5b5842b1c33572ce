"""Photograph the page: ``python -m tests.view.rl.picture docs/rl.png [RUN]`` (needs Chromium). Without a run, a made one."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from openk2.view.rl.app import application
from openk2.view.rl.read import Learning
from tests.engine.server.browser import Browser
from tests.view.rl.learning import make
from tests.view.running import Running
from tests.view.trajectories.picture import stack


def photograph(to: Path, run_dir: Path | None = None, *, theme: str = "light", width: int = 1200) -> None:
    """The families and the time line above, one of the best traces below."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("no Chromium (Debian: sudo apt install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        run = run_dir or make(Path(folder) / "nano", 60)
        server = Running(application(Learning(run)))
        with server, Browser(program, Path(folder) / "profile") as browser:
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
            browser.call("Emulation.setScrollbarsHidden", hidden=True)
            pictures = []
            for section, height in (("newest", 1170), ("traces-section", 560)):
                browser.open("about:blank", width=width, height=height)
                browser.open(f"{server.address}/#order=best&family=tools", width=width, height=height)
                browser.wait_for("document.querySelectorAll('#rows a[data-at]').length > 0")
                browser.do("document.querySelector('#rows a').click()")
                browser.wait_for("document.querySelectorAll('#one .turn').length > 0")
                browser.do(f"scrollTo(0, document.getElementById({section!r}).getBoundingClientRect().top - 90)")
                pictures.append(Path(folder) / f"{section}.png")
                browser.screenshot(pictures[-1])
        stack(pictures, to)


if __name__ == "__main__":
    photograph(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
