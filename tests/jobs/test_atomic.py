import json

import pytest

from openk2.jobs.atomic import write_bytes, write_json, write_text


def test_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": "é" * 1000})
    write_json(path, {"b": 1})
    assert json.loads(path.read_text()) == {"b": 1}
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_bytes(path, "no bytes")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
