"""One command, every stage: what a run leaves, what it says, what others can do with it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from openk2.model.transformer import Transformer
from openk2.pipeline import export
from openk2.pipeline.folder import Run
from openk2.recipe import Recipe
from openk2.schema import Trace
from openk2.text.tokenizer import Tokenizer
from openk2.train.checkpoint import checkpoints, load_model
from openk2.train.metrics import read_metrics
from tests.pipeline.conftest import command, environment, hear_ctrl_c, openk2, refused

RESULTS = ("summary.json", "report.html")
STAGES = ("worlds", "corpus", "pretrain", "sft", "rl", "sft_control", "eval")
TRAINED = ("pretrain", "sft", "rl", "sft_control")
EVALUATED = ("base", "sft", "sft_control", "rl")
SETS = ("demonstrated", "undemonstrated", "unseen_domain")
EVERY_STEP = {
    "step", "tokens", "seconds", "loss", "grad_norm", "lr", "max_logit", "clipped_heads", "num_heads", "expert_load",
    "tokens_per_second",
}  # fmt: skip
EVERY_RL_STEP = (EVERY_STEP - {"loss"}) | {
    "ptx_loss", "reward", "pass_rate", "response_tokens", "truncated", "mixed_groups", "rollout_seconds",
}  # fmt: skip

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def summary(finished: Path) -> Any:
    return json.loads((finished / "summary.json").read_text())


def test_everything_lies_where_the_layout_says(finished: Path) -> None:
    for stage in STAGES:
        done = json.loads((finished / stage / "done.json").read_text())
        assert done["seconds"] > 0
        assert done["peak_rss_bytes"] > 50e6
        assert done["made_by"]["torch"] == torch.__version__
    for name in ("traces.jsonl", "rejects.jsonl", "funnel.json", "documents.jsonl"):
        assert (finished / "worlds" / name).exists(), name
    for source in ("copying", "knowledge", "worlds"):
        assert (finished / "corpus" / source / "train.tokens").stat().st_size > 0
    for stage in TRAINED:
        assert checkpoints(finished / stage / "checkpoints")
        assert list((finished / stage / "tensorboard").iterdir())
    expected = {f"{s}-{t}{avg}.jsonl" for s in EVALUATED for t in SETS for avg in ("", "-avg")}
    assert {path.name for path in (finished / "eval").glob("*.jsonl")} == expected
    assert Recipe.load(finished / "recipe.toml").name == "tiny"
    assert Tokenizer.load(finished / "tokenizer.json").vocab_size <= 1024
    assert not [path for path in finished.rglob("*") if ".part" in path.name or ".tmp" in path.name]


def test_metrics_tell_every_step(finished: Path) -> None:
    for stage, steps in (("pretrain", 6), ("sft", 6), ("rl", 3)):
        rows = read_metrics(finished / stage / "metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(1, steps + 1))
        for row in rows:
            assert (EVERY_RL_STEP if stage == "rl" else EVERY_STEP) <= set(row)
    rows = read_metrics(finished / "pretrain" / "metrics.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["tokens"] == 6 * 4 * 256


def test_checkpoints_hold_the_last_step(finished: Path) -> None:
    recipe = Recipe.load(finished / "recipe.toml")
    models = []
    for stage, step in (("pretrain", 6), ("sft", 6), ("rl", 3)):
        last = checkpoints(finished / stage / "checkpoints")[-1]
        assert last.name == f"step-{step:06d}"
        model = Transformer(recipe.model)
        load_model(last, model)
        models.append(model.lm_head.weight)
    assert not torch.equal(models[0], models[1])
    assert not torch.equal(models[1], models[2])


def test_the_control_takes_what_reinforcement_learning_took(finished: Path, summary: Any) -> None:
    steps = json.loads((finished / "sft_control" / "done.json").read_text())["steps"]
    assert len(read_metrics(finished / "sft_control" / "metrics.jsonl")) == steps
    assert summary["budget_seconds"]["sft_control"] == pytest.approx(summary["seconds"]["rl"], abs=0.1)


def test_the_summary_has_its_shape(summary: Any) -> None:
    assert summary["recipe"] == "tiny"
    for key in ("commit", "machine", "torch", "python", "date"):
        assert isinstance(summary[key], str)
        assert summary[key]
    assert tuple(summary["seconds"]) == STAGES
    assert all(seconds > 0 for seconds in summary["seconds"].values())
    assert isinstance(summary["peak_rss_bytes"], int)
    assert summary["tokens_per_second"] > 0
    assert 0 < summary["heldout_bits_per_byte"] < 16
    assert set(summary["training"]) == set(TRAINED)
    assert set(summary["tasks"]) == set(SETS)
    for stages in summary["tasks"].values():
        assert set(stages) == set(EVALUATED)
        for rate in stages.values():
            assert set(rate) == {"pass_at_1", "ci95", "n"}
            low, high = rate["ci95"]
            assert 0 <= low <= rate["pass_at_1"] <= high <= 1
            assert rate["n"] == 8
    for pairs in summary["comparisons"].values():
        assert set(pairs) == {"sft_vs_base", "rl_vs_sft", "rl_vs_sft_control"}
    for stages in summary["avg_at_k"].values():
        assert all(rate["k"] == 2 and rate["n"] == 4 for rate in stages.values())


def test_evaluated_traces_hold_their_tokens(finished: Path) -> None:
    recipe = Recipe.load(finished / "recipe.toml")
    for line in (finished / "eval" / "rl-unseen_domain.jsonl").read_text().splitlines():
        trace = Trace.from_json(json.loads(line))
        assert trace.versions["eval"].startswith(f"{recipe.fingerprint}/rl ")
        assert 0 < trace.num_sampled <= recipe.eval.max_tokens
        assert len(trace.token_ids) <= recipe.model.max_positions


def test_the_report_stands_alone(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|<script|<link""", page)
    for part in ("Results", "Episodes", "Training", "Where the demonstrations come from", "Time", "Judge"):
        assert part in page


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_finds_everything_done(recipe_file: Path, finished: Path) -> None:
    before = state(finished)
    ended = openk2("run", recipe_file, "--run", finished)
    assert ended.returncode == 0, ended.stderr
    for stage in STAGES:
        assert re.search(rf"^{stage}: done before, \d+ s$", ended.stdout, re.MULTILINE)
    after = state(finished)
    written_again = {str(finished / name) for name in ("summary.json", "report.html")}
    assert {name for name in after if after[name] != before.get(name)} <= written_again
    assert {name: content for name, (_, content) in after.items()} == {n: content for n, (_, content) in before.items()}


def test_another_recipe_is_refused_and_named(recipe_file: Path, finished: Path) -> None:
    before = state(finished)
    said = refused("run", recipe_file, "--run", finished, "--pretrain.optim.lr", "0.5")
    assert f"{finished} belongs to another recipe (it differs in pretrain.optim.lr: 0.02 there, 0.5 here)" in said
    assert state(finished) == before
    recipe = Recipe.load(finished / "recipe.toml")
    first, second = recipe.data.sources
    sources = (first, second.model_copy(update={"max_tokens": 9000}))
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": sources})})
    with pytest.raises(ValueError, match=r"data\.sources\.1\.max_tokens: 8000 there, 9000 here"):
        Run.open(other, finished)


def test_the_export_is_what_transformers_loads(finished: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ended = openk2("export", finished, tmp_path / "hf")
    assert ended.returncode == 0, ended.stderr
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    run = Run.reopen(finished)
    ours = run.model_after("rl").eval()
    tokens = torch.tensor([run.tokenizer().encode('{"name": "Tool", "value": 17}')])
    with torch.no_grad():
        expected = ours(tokens, positions=torch.arange(tokens.shape[1])[None])
        torch.testing.assert_close(theirs(tokens).logits, expected, rtol=0, atol=1e-5)
    assert (tmp_path / "hf" / "tokenizer.json").read_bytes() == (finished / "tokenizer.json").read_bytes()
    with pytest.raises(ValueError, match="exists"):
        export(finished, tmp_path / "hf")


@pytest.fixture
def damaged(finished: Path, tmp_path: Path) -> Path:
    """The same run, stopped before RL."""
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    for stage in ("rl", "sft_control", "eval"):
        shutil.rmtree(folder / stage)
    return folder


def test_a_cut_checkpoint_of_a_finished_stage_is_named(recipe_file: Path, damaged: Path) -> None:
    model = checkpoints(damaged / "sft" / "checkpoints")[-1] / "model"
    [file] = model.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    assert f"{model} " in refused("run", recipe_file, "--run", damaged)
    shutil.rmtree(damaged / "sft" / "checkpoints")
    assert "no checkpoint of stage sft" in refused("run", recipe_file, "--run", damaged)


@contextmanager
def terminal(*argv: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a pseudo-terminal of its own, and the person's end of it."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        command(*argv),
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    os.close(theirs)
    try:
        yield program, ours
    finally:
        program.kill()
        program.wait()
        os.close(ours)


def read_until(ours: int, words: str) -> str:
    """What the terminal shows up to ``words``."""
    shown = b""
    deadline = time.monotonic() + 60
    while words.encode() not in shown:
        assert time.monotonic() < deadline, shown.decode(errors="replace")
        if select.select([ours], [], [], 0.2)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                raise AssertionError(shown.decode(errors="replace")) from None
    return shown.decode(errors="replace")


@pytest.mark.parametrize("leaving", [b"\x04", signal.SIGINT])
def test_a_person_can_chat_and_leave(finished: Path, leaving: bytes | signal.Signals) -> None:
    with terminal("chat", finished) as (program, ours):
        shown = read_until(ours, "you: ")
        assert "the agent after stage rl" in shown
        assert "tool " in shown
        os.write(ours, b"\n")  # the suggested question
        assert "assistant" in read_until(ours, "you: ")
        if isinstance(leaving, bytes):
            os.write(ours, leaving)
        else:
            program.send_signal(leaving)
        assert program.wait(timeout=20) == 0


def test_a_stage_by_its_verb_stands_on_the_others_and_writes_no_report(recipe_file: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time, everything was done before
        ended = openk2("pretrain", recipe_file, "--run", tmp_path / "run")
        assert ended.returncode == 0, ended.stderr
    assert "pretrain: done before" in ended.stdout
    assert not any((tmp_path / "run" / name).exists() for name in (*RESULTS, "sft"))


def test_an_export_that_fails_leaves_nothing(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "tokenizer.json").unlink()
    refused("export", tmp_path / "run", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
