"""The judge's own process: reads pairs of expressions, says with math-verify whether they are equal.

Run as a file of its own, it imports nothing of openk2. Each line in is a JSON list of a time limit in seconds and two expression trees (``expression.tree``), each
line out "true" or "false". An alarm that nobody handles ends the process where a job outlasts its limit, even inside C and even when
nobody is left to read the verdict; memory is bounded too.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
from typing import Any

MEMORY_BYTES = 2 << 30
_DIGITS = 60  # two numbers that agree so far are equal: at the usual 15, roots of long integers agree that are not


def main() -> None:
    """Serve until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable()  # math-verify warns that its own time-outs are off; ours are on
    import sympy
    from math_verify import verify

    functions = {"ln": sympy.log, "log": lambda argument: sympy.log(argument, 10)}
    functions |= {name: getattr(sympy, name) for name in ("sin", "cos", "tan", "exp")}
    make = {
        "number": sympy.Rational,
        "symbol": lambda name: {"pi": sympy.pi, "e": sympy.E}.get(name) or sympy.Symbol(name),
        "sum": sympy.Add,
        "product": sympy.Mul,
        "quotient": lambda top, bottom: top / bottom,
        "power": sympy.Pow,
        "root": lambda degree, of: sympy.root(of, degree),
        "call": lambda name, argument: functions[name](argument),
    }

    def read(tree: list[Any]) -> Any:
        return make[tree[0]](*(read(part) if isinstance(part, list) else part for part in tree[1:]))

    verify(sympy.sqrt(2) + sympy.Symbol("x"), sympy.sqrt(3) * sympy.pi, timeout_seconds=None)  # the first time is slow
    print("ready", flush=True)
    for line in sys.stdin:
        limit, gold, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            equal = verify(read(gold), read(answer), numeric_precision=_DIGITS, timeout_seconds=None)
        except Exception:  # noqa: BLE001 - whatever sympy raises: the two could not be shown to be equal
            equal = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(bool(equal)), flush=True)


if __name__ == "__main__":
    main()
