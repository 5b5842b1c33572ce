"""Photograph the page: ``python -m tests.view.trajectories.picture docs/trajectories.png`` (needs Chromium)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from openk2.view.trajectories.catalog import Catalog
from openk2.view.trajectories.sources import open_sources
from tests.engine.server.browser import Browser
from tests.view.trajectories.conftest import Running
from tests.view.trajectories.episodes import write_folder


def photograph(to: Path) -> None:
    """The list above, one trajectory with a fault and a change below."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("no Chromium (Debian: sudo apt install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "synthetic"
        kept, _ = write_folder(data, 400)
        busy = max(
            kept,
            key=lambda r: (
                len(r["calls"]) + 5 * any(c["fault"] for c in r["calls"]) * any(c["changes"] for c in r["calls"])
            ),
        )
        with Running(Catalog(open_sources(data))) as server, Browser(program, Path(folder) / "profile") as browser:
            pictures = []
            for name, at, ready in (("list", "", ".row"), ("one", f"#id={busy['id']}", ".call")):
                browser.open("about:blank", width=1200, height=760)
                browser.open(f"{server.address}/{at}", width=1200, height=760)
                browser.wait_for(f"document.querySelectorAll({ready!r}).length > 0")
                pictures.append(Path(folder) / f"{name}.png")
                browser.screenshot(pictures[-1])
        stack(pictures, to)


def stack(pictures: list[Path], to: Path) -> None:
    import matplotlib.image as image
    import numpy as np

    to.parent.mkdir(parents=True, exist_ok=True)
    image.imsave(to, np.concatenate([image.imread(picture)[..., :3] for picture in pictures]))


if __name__ == "__main__":
    photograph(Path(sys.argv[1]))
