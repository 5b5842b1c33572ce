"""The command: exit codes, one line for every mistake, and a quick start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openk2 import cli

ROOT = Path(__file__).parents[1]
NANO = str(ROOT / "recipes" / "nano.toml")


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line a mistake gets."""
    try:
        code = cli.main(argv)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_mistakes_get_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    bad = tmp_path / "bad.toml"
    bad.write_text(f'base = "{NANO}"\n[pretrain]\nstep = 5\n')
    assert f"{bad}: pretrain.step: unknown key; did you mean pretrain.steps?" in fails(capsys, "count", str(bad))
    assert "gone.toml: there is no such recipe" in fails(capsys, "run", "gone.toml")
    assert "did you mean --pretrain.steps?" in fails(capsys, "run", NANO, "--pretrain.stepz", "5")
    assert " layers" in fails(capsys, "plan", NANO)
    assert "invalid choice: 'rum'" in fails(capsys, "rum")
    assert "the following arguments are required: VERB" in fails(capsys)
    assert "unknown argument: --loud" in fails(capsys, "chat", "runs/nano", "--loud")


def test_a_system_error_names_its_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)

    def full(_: object) -> None:
        raise OSError(28, "No space left on device", "runs/nano/state.json")

    monkeypatch.setattr(cli, "count", full)
    assert fails(capsys, "count", NANO) == "openk2: runs/nano/state.json: No space left on device\n"


def test_ctrl_c_says_how_to_go_on():
    program = (
        "import signal, sys, time; from openk2 import cli\n"
        # A shell that starts its jobs in the background has them ignore Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait(args): print('waiting', flush=True); time.sleep(30)\n"
        "cli.count = wait; sys.exit(cli.main(['count', 'any.toml']))"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "\nopenk2: interrupted; the same command again goes on from there\n"


def test_help_is_quick_and_needs_no_torch():
    program = (
        "import sys; from openk2 import cli\n"
        "try: cli.main(['--help'])\n"
        "finally: print(sorted({'torch', 'pydantic', 'tyro', 'rich'} & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        out = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env=os.environ)
        seconds.append(time.monotonic() - started)
        assert out.stdout.endswith("[]\n")
    assert min(seconds) < 0.5


@pytest.mark.parametrize("verb", cli.RECIPE_VERBS)
def test_every_recipe_verb_helps(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"openk2 {verb}" in capsys.readouterr().out


def test_help_behind_a_recipe_shows_its_values(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(["pretrain", NANO, "--help"])
    assert stop.value.code == 0
    assert "--pretrain.steps" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["kimi-k2", "deepseek-v3", "moonlight-16b"])
def test_count_and_plan_need_no_torch(name: str):
    recipe = str(ROOT / "recipes" / f"{name}.toml")
    program = (
        "import sys; from openk2 import cli\n"
        f"assert cli.main(['count', {recipe!r}]) == 0 and cli.main(['plan', {recipe!r}, '--data', '16']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert "16 pipeline × 16 expert × 16 data" in out.stdout.replace("\n", " ")
