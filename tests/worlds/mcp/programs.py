"""The servers of these tests, as commands."""

import sys
from pathlib import Path

from openk2.worlds.mcp.process import Command

SERVERS = Path(__file__).parent / "servers"


def kept(*arguments):
    return Command((sys.executable, str(SERVERS / "kept.py"), *arguments))


def odd(how, *arguments):
    return Command((sys.executable, str(SERVERS / "odd.py"), how, *map(str, arguments)))
