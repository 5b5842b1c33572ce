"""A hundred thousand lines are browsed, not loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.view.trajectories.conftest import Made

NUM = 100_000
PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from openk2.view.trajectories.catalog import Catalog, Filters
from openk2.view.trajectories.sources import open_sources
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, started = peak(), time.process_time()
catalog = Catalog(open_sources(Path(sys.argv[1])))
indexed = time.process_time()
found = {words: len(catalog.matching(Filters(text=words, sort="calls"))) for words in ("no such words", "trace-099999")}
last = catalog.record(len(catalog) - 1).id
print(json.dumps([len(catalog), last, found, peak() - before, indexed - started, time.process_time() - indexed]))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_lines(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    with path.open("w") as file:
        for number, record in enumerate(islice(cycle(made.all), NUM)):
            file.write(json.dumps({**record, "id": f"trace-{number:06d}"}) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], check=True, capture_output=True, text=True, timeout=200
    )
    count, last, found, taken, to_index, to_search = json.loads(done.stdout)
    assert (count, last, found) == (NUM, "trace-099999", {"no such words": 0, "trace-099999": 1})
    assert taken < min(path.stat().st_size / 2, 120e6)
    assert to_index < 60
    assert to_search < 20
