"""Recipe files: inheritance, and that what is written reads back equal."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.recipe import emit, read, write

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


@settings(max_examples=150)
@given(st.dictionaries(keys, values, max_size=4))
def test_emit_reads_back_equal(data):
    assert tomllib.loads(emit(data)) == data


def test_none_is_a_word_and_unknown_types_are_refused():
    assert emit({"a": None}) == 'a = "none"\n'
    with pytest.raises(ValueError, match="cannot hold a complex"):
        emit({"a": 1j})


def test_a_file_states_only_what_differs_from_its_base(tmp_path: Path):
    (tmp_path / "low.toml").write_text('name = "low"\nlist = [1, 2]\n[t]\na = 1\nb = 2\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mid.toml").write_text('base = "../low.toml"\nname = "mid"\n[t]\nb = 3\n')
    (tmp_path / "sub" / "top.toml").write_text('base = "mid.toml"\nlist = [9]\n')
    data, origin = read(tmp_path / "sub" / "top.toml")
    assert data == {"name": "mid", "list": [9], "t": {"a": 1, "b": 3}}
    files = {".".join(key): Path(file).name for key, file in origin.items()}
    assert files == {"name": "mid.toml", "list": "top.toml", "t": "mid.toml", "t.a": "low.toml", "t.b": "mid.toml"}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ('base = "me.toml"', ValueError, "goes round in a circle: .*me.toml -> .*me.toml"),
        ('base = "gone.toml"', FileNotFoundError, r"gone.toml: there is no such recipe \(the base of .*me.toml\)"),
        ("base = 3", ValueError, "base = 3: should be the name"),
        ("a = ", ValueError, "me.toml: not a TOML file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, error: type[Exception], words: str):
    (tmp_path / "me.toml").write_text(text)
    with pytest.raises(error, match=words) as caught:
        read(tmp_path / "me.toml")
    assert "\n" not in str(caught.value)


def test_a_binary_file_is_named(tmp_path: Path):
    (tmp_path / "me.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"me.toml: not a TOML file"):
        read(tmp_path / "me.toml")


def test_write_leaves_nothing_beside_it(tmp_path: Path):
    write({"a": 1}, tmp_path / "r.toml")
    assert [file.name for file in tmp_path.iterdir()] == ["r.toml"]
