"""One spelling for what LaTeX, Unicode and plain text spell differently; what is not known here stays as it is."""

from __future__ import annotations

import re

_SPELLINGS = (
    (re.compile(r"(?<!\\)\$([^$]*)(?<!\\)\$"), r"\1"),
    (re.compile(r"\\(?:left|right|big|Big|bigl|bigr|displaystyle)(?![A-Za-z])"), ""),
    (re.compile(r"\{,\}|(?<=[0-9])\\,(?=[0-9]{3}(?![0-9]))"), ","),  # thousands
    (re.compile(r"\\[,;:! ]|~|\\q?quad(?![A-Za-z])|[\u00a0\u2009\u202f]"), " "),
    (re.compile(r"\\(?:text|textrm|textbf|mathrm|mathbf|mathit|operatorname|mbox|rm)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*([0-9])\s*([0-9])(?![0-9])"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*([0-9])\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\sqrt\s*([0-9])(?![0-9])"), r"\\sqrt{\1}"),
    (re.compile(r"\\(?:cdot|times|ast)(?![A-Za-z])|[·×∙⋅]"), "*"),
    (re.compile(r"\\div(?![A-Za-z])|÷"), "/"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\\pi(?![A-Za-z])|π"), " pi "),
    (re.compile(r"√"), "sqrt "),
    (re.compile(r"²"), "^2"),
    (re.compile(r"³"), "^3"),
    (re.compile(r"\\infty(?![A-Za-z])|∞"), " inf "),
    (re.compile(r"\\cup(?![A-Za-z])|∪"), " U "),
    (re.compile(r"\\in(?![A-Za-z])|∈"), " in "),
    (re.compile(r"\\pm(?![A-Za-z])|±"), "±"),
    (re.compile(r"\\leq?(?:slant)?(?![A-Za-z])|≤"), "<="),
    (re.compile(r"\\geq?(?:slant)?(?![A-Za-z])|≥"), ">="),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\([{}%$])"), r"\1"),
    (re.compile(r"\^\s*\{?\s*(?:\\circ|o)\s*\}?(?![A-Za-z])|\\degree(?![A-Za-z])"), "°"),
    (re.compile(r"\s*\^\s*"), "^"),
    (re.compile(r"(?<=[A-Za-z])\^\s*\{\s*(-?[0-9])\s*\}"), r"^\1"),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\s+"), " "),
)
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("**", "**"),
    ("*", "*"),
    ("`", "`"),
    ("__", "__"),
)


def tidy(text: str) -> str:
    """The text of an answer in one spelling, on one line."""
    text = unwrapped(text)
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return text.strip()


def unwrapped(text: str) -> str:
    """An answer without the full stop and the marks of mathematics or emphasis around it."""
    while True:
        before, text = text, text.strip()
        if text.endswith((".", ",", ";")):
            text = text[:-1]
        for left, right in _WRAPPERS:
            inner = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and len(text) > len(left + right) and left not in inner:
                text = inner
                break
        if text == before:
            return text
