from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from openk2.engine.server.text_stream import TextStream


def pushed(chunks: list[bytes], stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(stop)
    return [*map(stream.push, chunks), stream.finish()]


def test_a_character_is_never_split() -> None:
    assert pushed([b"a\xe2", b"\x82", b"\xacb"]) == ["a", "", "€b", ""]


def test_what_never_becomes_a_character_is_replaced() -> None:
    assert pushed([b"a\xe2\x82"]) == ["a", "�"]
    assert pushed([b"\xff", b"b"]) == ["�", "b", ""]


def test_a_stop_text_is_held_back_until_it_is_none() -> None:
    assert pushed([b"one EN", b"DING"], stop=("END.",)) == ["one ", "ENDING", ""]
    assert pushed([b"one EN", b"D. two"], stop=("END.",)) == ["one ", "", ""]
    assert pushed([b"one EN"], stop=("END.",)) == ["one ", "EN"]


@given(st.binary(max_size=40), st.lists(st.integers(0, 40)))
def test_any_bytes_in_any_pieces_read_as_they_do_whole(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert "".join(pushed(pieces)) == data.decode("utf-8", "replace")


@given(st.text("ab€", max_size=30), st.lists(st.text("ab€", min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_text_ends_where_the_first_stop_text_begins(text: str, stop: list[str]) -> None:
    shown = "".join(pushed([bytes([byte]) for byte in text.encode()], tuple(stop)))
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(s) for s in stop)]
    if not ends:
        assert shown == text
    else:  # byte by byte: the stop text that is complete first, the longest of those
        first = text[: ends[0]]
        assert shown == min((first.removesuffix(s) for s in stop if first.endswith(s)), key=len)
        assert not any(s in shown for s in stop)
