from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.view.rl.tail import Tail

# What may happen to a file between two looks: bytes are added, in pieces of any size, it is cut, or written anew.
grown = st.tuples(
    st.just("grow"), st.binary(max_size=12) | st.sampled_from([b'{"a":1}\n', b'{"a":', b"2}\n", b"7\n", b"\n"])
)
cut = st.tuples(st.just("cut"), st.integers(0, 60))
anew = st.tuples(st.just("anew"), st.lists(st.integers(0, 3), max_size=6))
gone = st.tuples(st.just("gone"), st.none())


def whole_records(path: Path) -> list[dict]:
    found = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found += [record] if isinstance(record, dict) else []
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(grown | cut | anew | gone, max_size=14))
def test_whatever_happens_to_the_file_its_whole_lines_are_known(events: list[tuple[str, object]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.jsonl"
        tail, seen = Tail(path), []
        for event, how in events:
            match event:
                case "grow":
                    with path.open("ab") as file:
                        file.write(how)
                case "cut" if path.exists():
                    os.truncate(path, min(how, path.stat().st_size))
                case "anew":
                    path.write_text("".join(json.dumps({"n": n}) + "\n" for n in how))
                case "gone":
                    path.unlink(missing_ok=True)
            for line in tail.lines():
                seen = [] if line is None else [*seen, line]
            assert [line.record for line in seen] == whole_records(path)
        for line in seen:
            assert json.loads(path.read_bytes()[line.offset : line.offset + line.length]) == line.record


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(b'{"a": 1}\nnonsense\n[1]\n\n\xff\xfe\n{"a": 2}\n' + b"[" * 100_000 + b'\n{"a": 3')
    tail = Tail(path)
    assert [line.record for line in tail.lines() if line] == [{"a": 1}, {"a": 2}]
    assert tail.num_damaged == 4
