"""What cannot work is refused by the real command in one line, with exit code 2; what was there stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.pipeline.conftest import openk2, refused, write_recipe

FILES = '\n[[data.sources]]\nkind = "files"\nlabel = "mine"\nweight = 1.0\npath = "{path}"\n'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "tiny.toml")


def with_files(tmp_path: Path, path: Path) -> Path:
    """The tiny recipe with another source: whatever lies at ``path``."""
    recipe = write_recipe(tmp_path / "files.toml")
    text = recipe.read_text()
    recipe.write_text(text.replace("\n[worlds]", FILES.format(path=path) + "\n[worlds]"))
    return recipe


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model.num_experts_per_token", "9"), "num_experts_per_token must lie in 1..num_experts (4), got 9"),
        (("--model.qk_rope_head_dim", "7"), "qk_rope_head_dim must be even (RoPE turns pairs), got 7"),
        (("--sft.row_length", "4096"), "sft.row_length 4096 exceeds model.max_positions 512"),
        (("--tokenizer.vocab_size", "2048"), "tokenizer.vocab_size 2048 exceeds model.vocab_size 1024"),
        (("--sft.stepz", "4"), "--sft.stepz: unknown flag; did you mean --sft.steps?"),
        (("--sft.steps", "many"), "--sft.steps"),
    ],
)
def test_impossible_values_are_refused_before_anything_is_written(
    recipe: Path, tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    assert words in refused("run", recipe, "--run", tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


def test_a_misspelt_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    recipe = tmp_path / "misspelt.toml"
    recipe.write_text(f'base = "{write_recipe(tmp_path / "tiny.toml")}"\n[model]\nnum_expert = 8\n')
    said = refused("run", recipe, "--run", tmp_path / "run")
    assert f"{recipe}: model.num_expert: unknown key; did you mean model.num_experts?" in said


def test_a_file_is_no_run_folder(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("notes")
    assert f"{tmp_path / 'run'} is a file" in refused("run", recipe, "--run", tmp_path / "run")
    assert (tmp_path / "run").read_text() == "notes"


def test_a_folder_without_a_run_cannot_be_talked_to(tmp_path: Path) -> None:
    assert "has no recipe.toml" in refused("chat", tmp_path)
    assert "has no recipe.toml" in refused("export", tmp_path, tmp_path / "out")


def test_a_missing_corpus_is_refused_at_once(tmp_path: Path) -> None:
    recipe = with_files(tmp_path, tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'} does not exist" in refused("run", recipe, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["empty", "binary"])
def test_a_corpus_without_text_is_refused(tmp_path: Path, kind: str) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    if kind == "binary":
        for number in range(3):
            (corpus / f"{number}.bin").write_bytes(bytes(range(256)) * 4)
    recipe = with_files(tmp_path, corpus)
    said = refused("run", recipe, "--run", tmp_path / "run")
    skipped = {"empty": "skipped: nothing", "binary": "skipped: 3 "}[kind]
    assert f"data source 'mine' at {corpus} has no text to train on ({skipped}" in said
    assert (tmp_path / "run" / "worlds" / "done.json").exists()
    assert not (tmp_path / "run" / "corpus" / "done.json").exists()
    assert not (tmp_path / "run" / "tokenizer.json").exists(), "it was learnt from a corpus that is none"


def test_divergence_names_step_batch_and_last_good_checkpoint(tmp_path: Path, recipe: Path) -> None:
    flags = ("--pretrain.optim.adamw_lr", "1e38", "--pretrain.checkpoint_every", "1")
    said = refused("pretrain", recipe, "--run", tmp_path / "run", *flags, code=1)
    last = sorted((tmp_path / "run" / "pretrain" / "checkpoints").iterdir())[-1]
    step = int(last.name.removeprefix("step-")) + 1
    assert f"at step {step}; last good checkpoint: {last}; batch: copying " in said
    assert not (tmp_path / "run" / "pretrain" / "done.json").exists()


def test_a_device_that_is_not_there_leaves_no_folder(tmp_path: Path, recipe: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    assert "cuda" in refused("run", recipe, "--run", tmp_path / "run", "--device", "cuda")
    assert not (tmp_path / "run").exists()


def test_a_damaged_record_of_a_stage_is_named(tmp_path: Path, recipe: Path) -> None:
    done = tmp_path / "run" / "worlds" / "done.json"
    done.parent.mkdir(parents=True)
    done.write_text('{"seconds": 1')
    assert f"{done} is damaged" in refused("pretrain", recipe, "--run", tmp_path / "run")


def test_a_stage_the_recipe_lacks_is_named(tmp_path: Path, recipe: Path) -> None:
    ended = openk2("rl", recipe, "--run", tmp_path / "run", "--rl", "none")
    assert ended.returncode == 2
