"""All checks by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openk2.gym.instructions import check
from openk2.gym.instructions.checks import edges, formats, language, layout, length, lists, marks, words

GROUPS = (words, length, marks, edges, lists, layout, formats, language)
CHECKS = {name: found for kind in GROUPS for name, found in kind.CHECKS.items()}


def constraint(spec: Mapping[str, Any]) -> check.Constraint:
    """The constraint that ``{"check": name, **parameters}`` describes. Raises ValueError, naming check and parameter."""
    return check.read(spec, CHECKS)
