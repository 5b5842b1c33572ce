"""The metrics of a stage: whole lines only, and no damage passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from openk2.train.metrics import MetricsLog, last_metrics, read_metrics


def test_a_torn_last_line_is_left_out_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    log = MetricsLog(tmp_path, from_step=1)
    log.write({"step": 2, "loss": 1.25})
    log.close()
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.25}]
    assert last_metrics(path)["loss"] == 1.25


def test_a_damaged_line_before_others_is_named_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2 is damaged"):
        MetricsLog(tmp_path, from_step=3)
    assert path.read_text().endswith('{"step": 3}\n')


def test_no_line_at_all_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.jsonl is missing or empty"):
        last_metrics(tmp_path / "metrics.jsonl")
