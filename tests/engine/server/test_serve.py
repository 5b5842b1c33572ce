"""The verb, as a process of its own: it listens, drains and leaves."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from pathlib import Path

import httpx2
import openai
import pytest

from tests.engine.server.process import SECONDS, Process, serving

LONG = {"model": "tiny", "prompt": "def", "max_tokens": 1500, "stream": True, "seed": 1}


def stream(server: Process, body: dict[str, object], got: list[str], begun: threading.Event) -> None:
    with httpx2.stream("POST", server.address + "/v1/completions", json=body, timeout=SECONDS) as response:
        for line in response.iter_lines():
            got.append(line)
            begun.set()


def test_it_finishes_what_runs_before_it_leaves(folder: Path) -> None:
    with serving(folder) as server:
        assert server.status("/health") == 200
        with openai.OpenAI(base_url=server.address + "/v1", api_key="none", timeout=SECONDS) as client:
            said = client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=4
            )
            assert said.usage is not None
        got: list[str] = []
        begun = threading.Event()
        asking = threading.Thread(target=stream, args=(server, LONG, got, begun))
        asking.start()
        assert begun.wait(SECONDS)
        server.process.send_signal(signal.SIGTERM)
        refused = until_refused(server)
        asking.join(SECONDS)
        assert server.process.wait(SECONDS) == 0
    assert refused
    assert got[-2] == "data: [DONE]"
    last = json.loads(got[-4].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] in ("stop", "length")


def until_refused(server: Process) -> bool:
    """Whether a new request is told to go away while the old one runs."""
    with contextlib.suppress(httpx2.ConnectError):  # it is done already
        for _ in range(50):
            if server.status("/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 1}) == 503:
                return server.status("/health") == 503
    return False


def test_it_does_not_wait_for_ever(folder: Path) -> None:
    with serving(folder, "--drain-seconds", "1") as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(15) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines: give --api-key-file"),
        (["--api-key-file", "missing"], "missing: No such file"),
        (["--api-key-file", "empty"], "is empty"),
        (["--max-context", "100000"], "exceeds the model's max_positions"),
        (["--port", "70000"], "port"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    flags: list[str], words: str,
) -> None:  # fmt: skip
    from openk2.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    assert main(["serve", str(folder), *flags]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_port_in_use_and_folders_that_hold_no_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from openk2.cli import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(folder), "--port", str(port)]) == 2
    assert f"port {port}" in capsys.readouterr().err
    assert main(["serve", str(tmp_path)]) == 2
    assert "neither a run's folder" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{}")
    assert main(["serve", str(tmp_path)]) == 2
    assert "tokenizer.json is missing" in capsys.readouterr().err
