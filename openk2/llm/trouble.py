"""What can go wrong with one attempt, what of it is worth another, and how long to wait before that."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from enum import StrEnum
from random import Random

LONGEST_RETRY_AFTER_S = 600.0  # a server that asks for more is waited for no longer than this


class Reason(StrEnum):
    """Why an attempt is repeated: each passes by itself, and a chat completion has no effect to repeat."""

    RATE_LIMITED = "rate_limited"  # 429: too many at once, by the server's own word
    UNAVAILABLE = "unavailable"  # 503: starting, or full
    SERVER_ERROR = "server_error"  # any other 5xx
    TIMED_OUT = "timed_out"  # 408, or nothing whole within the attempt's limit
    CUT = "cut"  # no connection, or one that broke within the answer
    BAD_BODY = "bad_body"  # 200 with what is no chat completion


class Trouble(Exception):  # noqa: N818 - not an end: the call goes on
    """An attempt that failed in a way that may pass. ``retry_after_s`` is the server's own wish."""

    def __init__(self, reason: Reason, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.retry_after_s = retry_after_s


def reason_of_status(status: int) -> Reason | None:
    """Why a response of this status is asked for again; None for one that would come again (400, 401, 404 …)."""
    match status:
        case 408:
            return Reason.TIMED_OUT
        case 429:
            return Reason.RATE_LIMITED
        case 503:
            return Reason.UNAVAILABLE
    return Reason.SERVER_ERROR if status >= 500 else None


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that ``Retry-After`` (or OpenAI's ``retry-after-ms``) asks for; 0 when it is missing or unreadable."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    if date is None:
        return 0.0
    return min(max(email.utils.mktime_tz(date) - time.time(), 0.0), LONGEST_RETRY_AFTER_S)


def pause_s(attempt: int, trouble: Trouble, first_s: float, longest_s: float, rng: Random) -> float:
    """Seconds to wait after attempt number ``attempt`` (from 1).

    Exponential with full jitter, so that calls that failed together do not come back together; never sooner than the
    server asked, and then spread over a tenth more.
    """
    backoff = rng.uniform(0, min(first_s * 2 ** min(attempt - 1, 30), longest_s))
    return max(backoff, trouble.retry_after_s * rng.uniform(1.0, 1.1))
