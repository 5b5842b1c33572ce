"""A whole run at toy size: every stage for real, in seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TINY = """
base = "{nano}"
name = "tiny"
threads = 1
device = "cpu"

[[data.sources]]
kind = "copying"
weight = 0.7
max_tokens = 12000

[[data.sources]]
kind = "knowledge"
weight = 0.3
max_tokens = 8000

[worlds]
num_train = 60
num_heldout = 16
num_undemonstrated = 16
num_undemonstrated_heldout = 16
num_unseen_domain = 16
num_documents = 20

[tokenizer]
vocab_size = 1024
train_chars = 30000

[model]
vocab_size = 1024
hidden_size = 32
num_layers = 2
num_dense_layers = 1
intermediate_size = 48
num_heads = 2
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 8
v_head_dim = 8
num_experts = 4
num_experts_per_token = 2
moe_intermediate_size = 16
max_positions = 512
start = "normal"

[pretrain]
optim = {{ lr = 0.02, adamw_lr = 0.01 }}
steps = 6
batch_rows = 4
micro_batch_rows = 2
row_length = 256
checkpoint_every = 4

[sft]
steps = 6
batch_rows = 4
micro_batch_rows = 4
row_length = 384
checkpoint_every = 4
questions = {{ math = 20, logic = 20 }}

[rl]
steps = 3
prompts_per_step = 3
rollouts_per_prompt = 2
row_length = 384
max_tokens = 24
max_turns = 2
ptx_weight = 0.1
ptx_rows = 4
checkpoint_every = 2

[eval]
tasks_per_set = 8
avg_k = 2
avg_tasks_per_set = 4
max_turns = 2
max_tokens = 24
heldout_batches = 2
"""


def write_recipe(path: Path, more: str = "") -> Path:
    """The tiny recipe as a file; ``more`` is TOML that goes behind it."""
    path.write_text(TINY.format(nano=ROOT / "recipes" / "nano.toml") + more)
    return path


def command(*argv: object) -> list[str]:
    """The real command, as a person would start it."""
    return [sys.executable, "-m", "openk2.cli", *map(str, argv)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def hear_ctrl_c() -> None:
    """For ``preexec_fn``: a shell that runs the tests in the background has its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def openk2(*argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(command(*argv), env=environment(), capture_output=True, text=True, timeout=300, **options)


def refused(*argv: object, code: int = 2) -> str:
    """The one line a run that cannot go on ends with."""
    ended = openk2(*argv)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("openk2: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes") / "tiny.toml")


@pytest.fixture(scope="module")
def finished(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that went through every stage."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    ended = openk2("run", recipe_file, "--run", folder)
    assert ended.returncode == 0, ended.stderr
    return folder
