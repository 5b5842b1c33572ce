from __future__ import annotations

from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from openk2.data.config import DataConfig, SourceConfig
from openk2.data.corpus import documents, mixed_texts
from openk2.data.documents import Skipped
from openk2.data.python import compiled_modules, module_documentation


def read(path: Path, skipped: Skipped | None = None, **options: str) -> list[str]:
    source = SourceConfig(kind="files", weight=1, path=path, **options)  # type: ignore[arg-type]
    return [document.text for document in documents(source, 0, Skipped() if skipped is None else skipped)]


def test_a_folder_of_every_kind_is_read_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"one"}\n\n{"text":"two","id":2}\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["three", None, "four"]}), tmp_path / "b.parquet")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.md").write_text("f\u00fcnf\r\n")
    (tmp_path / ".hidden").write_text("not this")
    assert read(tmp_path) == ["one", "two", "three", "four", "f\u00fcnf\r\n"]
    assert read(tmp_path / "c" / "d.md") == ["f\u00fcnf\r\n"]


def test_another_text_field(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body":"one"}\n')
    assert read(tmp_path, text_field="body") == ["one"]


def test_what_is_no_text_is_counted_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x7fELF\0\1\2")
    (tmp_path / "b.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (tmp_path / "c.jsonl").write_bytes(b'{"text":"caf\xe9"}\n{"text":"good"}\n')
    (tmp_path / "d.txt").write_text(" \n")
    skipped = Skipped()
    assert read(tmp_path, skipped) == ["good"]
    assert skipped == {"binary files": 1, "files not in UTF-8": 1, "lines not in UTF-8": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text":"one"}\n{"te', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", '{"body":"one"}\n', r"a\.jsonl:1: no text under 'text'; the record has body"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: no text under 'text'; the record is no object"),
        ("a.parquet", "nonsense", r"a\.parquet is no parquet file"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_a_missing_path_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="no column 'text'; there is body"):
        read(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"text": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="column 'text' holds int64, not text"):
        read(tmp_path)


def test_the_running_python_is_a_corpus() -> None:
    source = SourceConfig(kind="python", weight=1)
    some = [document.text for document in islice(documents(source, 0, Skipped()), 40)]
    assert some == [document.text for document in islice(documents(source, 0, Skipped()), 40)]
    assert some != [document.text for document in islice(documents(source, 1, Skipped()), 40)]
    assert any("import " in text and "def " in text for text in some)


def test_compiled_modules_tell_their_documentation() -> None:
    assert "math" in compiled_modules() or "cmath" in compiled_modules()
    text = module_documentation("itertools")
    assert "itertools.count" in text
    assert module_documentation("no_such_module") == ""


def test_texts_are_mixed_by_weight() -> None:
    config = DataConfig(
        sources=(
            SourceConfig(kind="copying", weight=3, max_tokens=1),
            SourceConfig(kind="knowledge", weight=1, max_tokens=1),
        ),
    )
    texts = list(mixed_texts(config, 200_000))
    told = sum(len(text) for text in texts if " is a " in text.split(".")[0])
    assert 0.2 < told / sum(map(len, texts)) < 0.3
    assert 200_000 <= sum(map(len, texts)) < 205_000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "files"}, "`path` is for kind 'files'"),
        ({"kind": "python", "path": "x"}, "`path` is for kind 'files'"),
        ({"kind": "copying"}, "set `max_tokens`"),
        ({"kind": "python", "label": "../x"}, "a label is letters"),
        ({"kind": "python", "wieght": 1}, "wieght"),
    ],
)
def test_wrong_configs_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourceConfig(**({"weight": 1} | fields))


def test_two_sources_of_one_name_are_refused() -> None:
    python = SourceConfig(kind="python", weight=1)
    with pytest.raises(ValidationError, match="two data sources are called 'python'"):
        DataConfig(sources=(python, python))
