import logging

import pytest

from openk2.jobs.jsonl import Appender, read


def test_reads_back_what_was_appended_over_several_openings(tmp_path):
    path = tmp_path / "a.jsonl"
    for n in range(3):
        with Appender(path) as file:
            file.write({"n": n, "text": "ü\n"})
    assert [record["n"] for record in read(path)] == [0, 1, 2]
    assert path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_last_line_is_reported_dropped_and_mended(tmp_path, caplog, cut):
    path = tmp_path / "a.jsonl"
    with Appender(path) as file:
        file.write({"n": 1})
        file.write({"name": "é"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    expected = [{"n": 1}, {"name": "é"}] if cut == 1 else [{"n": 1}]  # cut 1 loses the newline alone
    with caplog.at_level(logging.WARNING):
        assert list(read(path)) == expected
    assert ("torn" in caplog.text) == (cut > 1)
    with Appender(path) as file:
        file.write({"n": 3})
    assert list(read(path)) == [*expected, {"n": 3}]


def test_a_bad_line_within_the_file_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a":1}\n[2]\n{"a":3}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2"):
        list(read(path))
