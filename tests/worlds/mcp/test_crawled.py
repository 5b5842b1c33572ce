import gzip
import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from openk2.schema import ToolSpec
from openk2.worlds.mcp.crawled import MAX_LINE, read_crawled

ROW = {
    "server": "S",
    "license": "MIT",
    "category": "C",
    "name": "go",
    "description": "Go.",
    "inputSchema": {"type": "object"},
}


def written(path, rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(gzip.compress(b"\n".join(lines)) if path.suffix == ".gz" else b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize("name", ["tools.jsonl", "tools.jsonl.gz"])
def test_rows_are_kept_mended_or_refused_by_reason(tmp_path, name):
    rows = [
        ROW,
        {**ROW, "server": "T", "license": "Apache-2.0"},
        ROW,
        {**ROW, "name": "spaced name!", "description": None, "inputSchema": None},
        {**ROW, "name": "-x_1"},
        {**ROW, "name": "一"},
        {**ROW, "name": "a", "license": ""},
        {**ROW, "name": "b", "inputSchema": {"type": "array"}},
        b"{",
        b"[]",
        b'{"name": "' + b"x" * 3 * MAX_LINE + b'"}',
        {**ROW, "name": "last"},
    ]
    crawl = read_crawled(written(tmp_path / name, rows))
    kept = [(tool.server, tool.license, tool.category, tool.spec.name) for tool in crawl.tools]
    assert kept == [
        ("S", "MIT", "C", "go"), ("T", "Apache-2.0", "C", "go"), ("S", "MIT", "C", "spaced_name"),
        ("S", "MIT", "C", "-x_1"), ("S", "MIT", "C", "last"),
    ]  # fmt: skip
    assert crawl.mended == {"name": 1, "schema missing": 1}
    assert crawl.refused == {
        "seen before": 1, "no name": 1, "no license": 1, "not an object's schema": 1, "not JSON": 1,
        "not an object": 1, "too large": 1,
    }  # fmt: skip
    assert crawl.report()["tools"] == 5


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_crawled(tmp_path / "none.jsonl")
    (tmp_path / "text.gz").write_text("hello")
    with pytest.raises(ValueError, match=r"text.gz: no whole gzip file"):
        read_crawled(tmp_path / "text.gz")
    whole = written(tmp_path / "torn.gz", [ROW] * 100).read_bytes()
    (tmp_path / "torn.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"torn.gz: no whole gzip file"):
        read_crawled(tmp_path / "torn.gz")


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif("OPENK2_CRAWLED_TOOLS" not in os.environ, reason="set OPENK2_CRAWLED_TOOLS to a crawl's JSON Lines")
def test_a_real_crawl_comes_through():
    crawl = read_crawled(Path(os.environ["OPENK2_CRAWLED_TOOLS"]))
    assert len(crawl.tools) >= 2800
    for tool in crawl.tools:
        Draft202012Validator.check_schema(tool.spec.parameters)
        assert ToolSpec.from_json(json.loads(json.dumps(tool.to_json()))["tool"]) == tool.spec
