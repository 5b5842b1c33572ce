import pytest

from openk2.worlds.mcp.lock import Lock, fingerprint

LOCK = Lock("s", ("run", "it"), "s 1", {"a": "1", "b": "2", "c": "3"})


def test_a_lock_is_read_as_written_and_damage_is_named(tmp_path):
    LOCK.write(tmp_path / "s.json")
    assert Lock.read(tmp_path / "s.json") == LOCK
    for damaged in ("{", "[]", "{}"):
        (tmp_path / "s.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"s\.json"):
            Lock.read(tmp_path / "s.json")


def test_differences_are_named():
    found = Lock("s", ("run", "elsewhere"), "s 2", {"a": "1", "b": "9", "d": "4"})
    assert LOCK.differences(found) == ["changed b", "added d", "removed c"]
    assert LOCK.differences(LOCK) == []


def test_a_fingerprint_sees_everything_but_the_order_of_keys():
    whole = fingerprint("a", "b", {"x": 1, "y": 2})
    assert whole == fingerprint("a", "b", {"y": 2, "x": 1})
    assert (
        len(
            {
                whole,
                fingerprint("b", "b", {"x": 1, "y": 2}),
                fingerprint("a", None, {"x": 1, "y": 2}),
                fingerprint("a", "b", {"x": 1}),
            }
        )
        == 4
    )
