import email.utils
import time
from random import Random

import pytest

from openk2.llm.trouble import Reason, Trouble, pause_s, reason_of_status, retry_after


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, None), (401, None), (404, None), (422, None), (408, Reason.TIMED_OUT), (429, Reason.RATE_LIMITED),
        (500, Reason.SERVER_ERROR), (502, Reason.SERVER_ERROR), (503, Reason.UNAVAILABLE), (529, Reason.SERVER_ERROR),
    ],
)  # fmt: skip
def test_what_is_asked_again(status, reason):
    assert reason_of_status(status) is reason


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0), ({"retry-after": "3"}, 3), ({"retry-after": "0.5"}, 0.5), ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-4"}, 0), ({"retry-after": "soon"}, 0), ({"retry-after": "1e9"}, 600),
    ],
)  # fmt: skip
def test_retry_after(headers, seconds):
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date():
    assert 5 < retry_after({"retry-after": email.utils.formatdate(time.time() + 10, usegmt=True)}) <= 10
    assert retry_after({"retry-after": email.utils.formatdate(time.time() - 10, usegmt=True)}) == 0


def test_waits_grow_differ_and_end():
    def longest(attempt):
        trouble = Trouble(Reason.UNAVAILABLE, "")
        return max(pause_s(attempt, trouble, 0.5, 30.0, Random(seed)) for seed in range(200))

    assert 0.4 < longest(1) <= 0.5
    assert 3 < longest(4) <= 4
    assert 28 < longest(5000) <= 30
    asked = {pause_s(1, Trouble(Reason.RATE_LIMITED, "", 2.0), 0.5, 30.0, Random(seed)) for seed in range(50)}
    assert len(asked) == 50
    assert all(2.0 <= pause <= 2.2 for pause in asked)
