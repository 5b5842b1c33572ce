"""Flags that override a recipe: ``--pretrain.steps 50``."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from openk2.recipe.check import explain, knows, nearest
from openk2.recipe.files import Key

M = TypeVar("M", bound=BaseModel)


def override(recipe: M, flags: Sequence[str], *, prog: str) -> M:
    """``recipe`` with the flags applied; ``--help`` prints every flag with this recipe's values and exits.

    A flag is a dotted key and its value. Raises ValueError: one line naming the flag.
    """
    if not flags:
        return recipe
    import tyro  # a tenth of a second that only flags and their help are worth

    said = io.StringIO()
    config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                type(recipe), prog=prog, args=list(flags), default=recipe, config=config, use_underscores=True
            )
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        raise ValueError(_why(recipe, flags, stop, said.getvalue())) from None


def _why(recipe: BaseModel, flags: Sequence[str], stop: SystemExit, said: str) -> str:
    """Our words for what tyro refused: an unknown flag, a value the model refuses, or a word of the wrong type."""
    model = type(recipe)
    for flag in filter(_is_flag, flags):
        if not knows(model, _key(flag)):
            return f"{flag}: unknown flag; {nearest(_key(flag), model).replace('did you mean ', 'did you mean --')}"
    cause: BaseException | None = stop
    while cause is not None:
        if isinstance(cause, ValidationError):
            key, words = explain(cause, model)
            about = [flag for flag in filter(_is_flag, flags) if _key(flag)[-1:] == key[-1:]]
            return f"{' '.join(about or flags)}: {words}"
        cause = cause.__context__
    # tyro has said it already, in a box: its first paragraph, on one line.
    first = re.split(r"│ ─+ │|╰", said)[0]
    line = " ".join(line.strip("│ ") for line in first.splitlines()[1:]).strip()
    return line.removeprefix("Error parsing ")


def _is_flag(word: str) -> bool:
    return word.startswith("--")


def _key(flag: str) -> Key:
    return tuple(flag.removeprefix("--").partition("=")[0].replace("-", "_").split("."))
