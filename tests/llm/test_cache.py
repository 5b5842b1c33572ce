import pytest

from openk2.llm.cache import Cache, key_of


def test_the_order_of_keys_does_not_matter_and_the_values_do():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": 1, "b": [1, 2]}) != key_of({"a": 1, "b": [2, 1]})


def test_the_first_answer_stays(tmp_path):
    path = tmp_path / "new" / "answers.sqlite"
    one, other = Cache(path), Cache(path)  # two processes may share a file
    assert one.get("k") is None
    one.put("k", {"said": "ä"})
    other.put("k", {"said": "b"})
    assert one.get("k") == other.get("k") == {"said": "ä"}
    one.close()
    other.close()


def test_another_file_is_refused_by_name(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(ValueError, match=r"notes\.txt is no cache of answers"):
        Cache(path)
    assert path.read_text().startswith("these are my notes")
