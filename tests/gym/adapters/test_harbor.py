from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from openk2.gym.adapters.config import HarborConfig
from openk2.gym.adapters.harbor import HarborEnv, solve
from openk2.gym.adapters.harbor_folder import RefusedError, read_task
from openk2.gym.agents import DISHONEST, play
from openk2.sandbox.enclosure import SandboxError, enclosure
from openk2.schema import Env, Message, Task, ToolCall, Trace

TASKS = Path(__file__).parent / "harbor_tasks"
NAMES = ("backup-script", "fix-median", "word-count")
# Every attack on every task, one task of them in the quick tests.
ATTACKED = [pytest.param(name, marks=() if name == "word-count" else pytest.mark.slow) for name in NAMES]

try:
    enclosure()
except SandboxError as missing:
    pytest.skip(str(missing), allow_module_level=True)


@pytest.fixture(scope="module")
def env() -> HarborEnv:
    return HarborEnv(HarborConfig(folder=TASKS, tests_s=3, shell_s=1))


def task_of(env: HarborEnv, name: str) -> Task:
    return next(task for split in ("train", "heldout") for task in env.tasks(split) if task.payload["folder"] == name)


def shell(*commands: str) -> list[Message]:
    calls = [
        ToolCall(f"functions.shell:{i}", "shell", json.dumps({"command": each})) for i, each in enumerate(commands)
    ]
    return [*(Message("assistant", tool_calls=[call]) for call in calls), Message("assistant", "Done.")]


def played(env: HarborEnv, name: str, moves: list[Message]) -> Trace:
    trace = asyncio.run(play(env, task_of(env, name), lambda task, shown, rng: moves))
    assert trace.stop_reason == "done", trace.info
    assert trace.score is not None
    return trace


def test_it_is_an_environment_with_all_tasks_and_their_tags(env: HarborEnv) -> None:
    assert isinstance(env, Env)
    tasks = [*env.tasks("train"), *env.tasks("heldout")]
    assert sorted(task.payload["folder"] for task in tasks) == sorted(NAMES)
    assert task_of(env, "word-count").tags == ("files", "text")
    assert env.refused == {}
    with pytest.raises(ValueError, match="nowhere"):
        env.tasks("nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_earns_all_and_the_idle_and_dishonest_nothing(env: HarborEnv, name: str) -> None:
    trace = played(env, name, solve(TASKS / name))
    assert trace.score is not None
    assert trace.score.total == 1, trace.messages
    for moves in DISHONEST.values():
        trace = asyncio.run(play(env, task_of(env, name), moves))
        assert trace.score is not None
        assert (trace.stop_reason, trace.score.total) == ("done", 0.0)


def test_files_stay_between_commands_and_links_lead_where_the_task_says(env: HarborEnv) -> None:
    trace = played(env, "fix-median", shell("echo $STATS_HOME; ls; echo new > kept", "cat /srv/stats/kept; exit 3"))
    said = [message.content for message in trace.messages if message.role == "tool"]
    assert said == ["/srv/stats\n__pycache__\nmedian.py\n\n[exit code 0]", "new\n\n[exit code 3]"]


REWARDED = "mkdir -p /logs/verifier; echo 1 > /logs/verifier/reward.txt; echo 1 > /logs/verifier/reward.json"
MINE = "#!/bin/bash\necho 1 > /logs/verifier/reward.txt\n"
WRITER = "while :; do echo 1 > /logs/verifier/reward.txt; done"


@pytest.mark.parametrize("name", ATTACKED)
@pytest.mark.parametrize(
    "commands",
    [
        (REWARDED,),
        (f"mkdir -p /tests; printf '{MINE}' > /tests/test.sh; chmod +x /tests/test.sh", REWARDED),
        (f"({WRITER}) & disown",),
        (f"setsid nohup bash -c '{WRITER}' >/dev/null 2>&1 &", "sleep 0.1"),
        ("cd /box/work && rm -rf tests logs && ln -s app tests && ln -s app logs && mkdir -p app/verifier && echo 1 > app/verifier/reward.txt",),
        ("mkdir -p ~/.local/lib/python3.11/site-packages; cd ~/.local/lib/python3.11/site-packages; echo 'print(1);import os;os._exit(0)' | tee usercustomize.py sitecustomize.py",),
        ("chmod 000 /box/work/tests /box/work/logs; chmod 555 /box/work",),
    ],
    ids=["reward", "tests", "disowned", "daemon", "links", "home", "modes"],
)  # fmt: skip
def test_forging_the_reward_earns_nothing(env: HarborEnv, name: str, commands: tuple[str, ...]) -> None:
    trace = played(env, name, shell(*commands))
    assert trace.score is not None
    assert trace.score.total == 0


@pytest.mark.parametrize(
    ("script", "part"),
    [
        (f"setsid bash -c '{WRITER}' >/dev/null 2>&1 & echo 9", "left_running"),
        (
            "echo 1 > /logs/verifier/reward.txt; kill -9 $(cat /proc/$PPID/status | grep PPid | tr -dc 0-9)",
            "tests_killed",
        ),
        ("echo 1 > /logs/verifier/reward.txt; kill -9 -1", "tests_killed"),
        ("echo 1 > /logs/verifier/reward.txt; sleep 4 & sleep 4", "tests_timeout"),
        ("yes > /data/full; sleep 1", "bad_reward"),
        ("rm -rf /logs; mkdir -p /logs; ln -s /etc /logs/verifier", "reward"),
    ],
    ids=["daemon", "kills the tests", "kills all", "waits", "fills the disk", "takes the folder"],
)
def test_a_program_that_the_tests_start_cannot_forge_it_either(env: HarborEnv, script: str, part: str) -> None:
    commands = f"cat > /app/backup.sh <<'E'\n#!/bin/bash\n{script}\nE\nchmod +x /app/backup.sh"
    trace = played(env, "backup-script", shell(commands))
    assert trace.score is not None
    assert (trace.score.total, [*trace.score.parts]) == (0, [part])


def test_malformed_calls_are_answered(env: HarborEnv) -> None:
    calls = [
        ("shell", "{"),
        ("shell", "[]"),
        ("shell", '{"command": 1}'),
        ("rm", '{"command": "ls"}'),
        ("shell", '{"command": "\\u0000"}'),
    ]
    moves = [Message("assistant", tool_calls=[ToolCall("functions.x:0", *call) for call in calls])]
    trace = played(env, "word-count", [*moves, Message("assistant", "")])
    assert [m.content for m in trace.messages if m.role == "tool"] == ['error: call shell with {"command": "…"}'] * len(
        calls
    )


@pytest.mark.parametrize(
    ("told", "total"),
    [("0.5", 0.5), ("1", 1), (" 1.0\n", 1), ("2", 0), ("-1", 0), ("nan", 0), ("NaN", 0), ("1e309", 0), ("", 0), ("true", 0), ('"1"', 0),
     ('{"reward": 0.25, "speed": 3}', 0.25), ('{"speed": 1}', 0), ("[1]", 0), ("[" * 99999, 0)],
)  # fmt: skip
def test_only_a_number_between_0_and_1_is_a_reward(tmp_path: Path, told: str, total: float) -> None:
    folder = tmp_path / "task"
    shutil.copytree(TASKS / "word-count", folder)
    (folder / "tests/told").write_text(told)
    (folder / "tests/test.sh").write_text("cp /tests/told /logs/verifier/reward.json")
    env = HarborEnv(HarborConfig(folder=tmp_path))
    trace = played(env, "task", shell("true"))
    assert trace.score is not None
    assert trace.score.total == total


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        (
            "environment/Dockerfile",
            "FROM ghcr.io/laude/swe:1\nWORKDIR /app",
            "needs an image: FROM ghcr.io/laude/swe:1",
        ),
        ("environment/Dockerfile", "FROM debian\nUSER bob\nWORKDIR /app", "its Dockerfile says USER bob"),
        (
            "environment/Dockerfile",
            "FROM debian\nWORKDIR /app\nCOPY --from=build /x /y",
            "says COPY --from=build /x /y",
        ),
        ("environment/Dockerfile", "FROM debian\nCOPY text.txt /etc/motd\nWORKDIR /app", "own system is read-only"),
        ("environment/Dockerfile", "FROM debian\nWORKDIR /app\nCOPY ../../x /app/", "names nothing in environment/"),
        ("environment/Dockerfile", "FROM debian\nRUN ls", "names no WORKDIR"),
        ("environment/Dockerfile", "FROM debian\nENV KEY=$SECRET\nWORKDIR /app", "needs a variable"),
        ("environment/docker-compose.yaml", "services: {}", "needs several containers"),
        ("task.toml", '[environment]\ndocker_image = "a/b"', "needs an image: task.toml sets environment.docker_image"),
        ("task.toml", "[environment]\ngpus = 1", "needs a GPU"),
        ("task.toml", '[verifier]\nenvironment_mode = "separate"', "needs an image for its tests"),
        ("task.toml", '[[steps]]\nname = "one"', "needs several steps"),
        ("task.toml", '[environment]\nos = "windows"', "needs windows"),
    ],
)
def test_what_a_box_cannot_give_is_refused_by_name(tmp_path: Path, file: str, text: str, reason: str) -> None:
    folder = tmp_path / "task"
    shutil.copytree(TASKS / "word-count", folder)
    (folder / file).write_text(text)
    with pytest.raises(RefusedError, match=reason):
        read_task(folder)
    assert list(HarborEnv(HarborConfig(folder=tmp_path)).refused) == ["task"]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("COPY text.txt /app", "/app/text.txt"),
        ("COPY text.txt .", "/app/text.txt"),
        ("COPY text.txt other", "/app/other"),
        ("COPY text.txt /data/in/", "/data/in/text.txt"),
        ("COPY . deep/er", "/app/deep/er/text.txt"),
        ("COPY text.txt Dockerfile /app/two", "/app/two/text.txt"),
        ("COPY text.txt \\\n  /app/two/", "/app/two/text.txt"),
    ],
)
def test_files_are_copied_where_docker_would(tmp_path: Path, line: str, path: str) -> None:
    shutil.copytree(TASKS / "word-count", tmp_path / "task")
    (tmp_path / "task/environment/Dockerfile").write_text(f"FROM debian\nWORKDIR /app\n{line}\n")
    env = HarborEnv(HarborConfig(folder=tmp_path))
    trace = played(env, "task", shell(f"head -c 8 {path}"))
    assert trace.messages[-2].content == "The tall\n[exit code 0]"


def test_a_run_that_fails_here_is_named(tmp_path: Path) -> None:
    shutil.copytree(TASKS / "word-count", tmp_path / "task")
    (tmp_path / "task/environment/Dockerfile").write_text("FROM debian\nWORKDIR /app\nRUN apt-get install -y cowsay")
    env = HarborEnv(HarborConfig(folder=tmp_path))
    trace = asyncio.run(play(env, task_of(env, "task"), lambda task, shown, rng: []))
    assert trace.stop_reason == "env_error"
    assert "task needs an image: RUN apt-get install -y cowsay ended here as failed" in trace.info["error"]


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no Harbor task"):
        HarborEnv(HarborConfig(folder=tmp_path))
    (tmp_path / "task").mkdir()
    (tmp_path / "task/task.toml").write_text("[")
    with pytest.raises(ValueError, match=r"task\.toml is no TOML"):
        HarborEnv(HarborConfig(folder=tmp_path))
