"""Packages of this interpreter that a box may import: read-only, and none but those that are named."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

SHOWN_AT = "/packages"  # inside; a program puts it on its path


@cache
def places(names: tuple[str, ...]) -> tuple[Path, ...]:
    """The files and folders of packages and of all they require that is installed.

    Raises ValueError for a package that is not installed itself.
    """
    found: dict[Path, None] = {}
    left, seen = list(names), set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            if name in names:
                raise ValueError(f"the package {name} is not installed: pip install {name}") from None
            continue
        found |= dict.fromkeys(_top(package))
        left += [re.split(r"[^\w.-]", wanted)[0] for wanted in package.requires or () if "extra ==" not in wanted]
    return tuple(sorted(found))


def _top(package: Distribution) -> list[Path]:
    """What a package has put into site-packages itself, its description included."""
    tops = {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}
    return [Path(str(package.locate_file(top))) for top in tops if not top.endswith(".pth")]
