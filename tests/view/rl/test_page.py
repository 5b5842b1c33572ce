"""The page, in a real browser over real HTTP."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from openk2.view.rl.app import PAGE, application
from openk2.view.rl.read import Learning
from tests.engine.server.browser import Browser
from tests.view.rl.learning import FAMILIES, Maker
from tests.view.running import Running, assert_dark_and_light

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: sudo apt install chromium)")
SECONDS = 30.0
LISTED = "document.querySelectorAll('#rows a[data-at]').length > 0"
FITS = "document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture(scope="module")
def server(made: Path) -> Iterator[Running]:
    with Running(application(Learning(made))) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def text_of(browser: Browser, selector: str) -> str:
    return str(browser.do(f"document.querySelector({selector!r}).innerText"))


def open_page(browser: Browser, server: Running, at: str = "", *, width: int = 1200) -> None:
    browser.call("Page.navigate", url="about:blank")  # a new hash alone would not load the page again
    browser.open(f"{server.address}/{at}", width=width, height=900)
    browser.wait_for(LISTED)


def test_nothing_comes_from_elsewhere() -> None:
    for word in ("http://", "https://", "innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert word not in PAGE


def test_figures_over_http(server: Running, made: Path) -> None:
    assert "default-src 'none'" in server.get("/").headers["content-security-policy"]
    figures = server.get("/api/figures").json()
    assert (figures["name"], figures["num_steps"], figures["last_step"], figures["finished"]) == ("made", 60, 60, False)
    assert [family["name"] for family in figures["families"]] == sorted(FAMILIES)
    assert figures["trace_steps"] == [1, 60]
    assert (figures["time"]["first"], figures["time"]["last"]) == (55, 60)
    same = server.get("/api/figures", since=figures["revision"]).json()
    assert same.keys() == {"revision", "finished", "quiet_seconds"}
    other = server.get("/api/figures", step=7, family="math").json()
    assert (other["time"]["first"], other["time"]["last"]) == (2, 7)
    rows = [json.loads(line) for line in (made / "rl" / "metrics.jsonl").read_text().splitlines()]
    passed = next(chart for chart in other["course"] if chart["label"] == "Share that pass")
    assert passed["last"] == f"{rows[-1]['pass_rate/math']:.3g}"


def test_traces_over_http(server: Running, made: Path) -> None:
    lines = (made / "rl" / "rollouts" / "step-000030.jsonl").read_text().splitlines()
    rewards = sorted(json.loads(line)["info"]["reward"] for line in lines)
    worst = server.get("/api/traces", step=30).json()
    assert [float(row["reward"]) for row in worst["rows"]] == rewards
    best = server.get("/api/traces", step=30, order="best", family="math").json()
    assert best["count"] == sum(json.loads(line)["info"]["family"] == "math" for line in lines)
    first = best["rows"][0]
    story = server.get("/api/trace", step=30, place=first["place"]).json()
    written = json.loads(lines[first["place"]])
    assert story["facts"]["id"] == written["id"]
    assert story["parts"] == written["score"]["parts"]
    assert [turn["content"] for turn in story["turns"]][-1] == written["messages"][-1]["content"]
    assert server.get("/api/traces", page=1).json()["start"] == 40


def test_refusals_over_http(server: Running) -> None:
    for path, parameters, status, words in (
        ("/api/figures", {"stepp": 3}, 400, "stepp: Extra inputs"),
        ("/api/figures", {"step": -1}, 400, "step: Input should be greater than or equal to 0"),
        ("/api/traces", {"order": "odd"}, 400, "order: String should match"),
        ("/api/trace", {"step": 3, "place": 999}, 404, "step 3 has 24 traces: there is no number 999"),
        ("/api/trace", {"step": 999, "place": 0}, 404, "step 999 has 0 traces"),
    ):
        answer = server.get(path, **parameters)
        assert answer.status_code == status
        assert words in answer.json()["error"]
    elsewhere = httpx2.get(server.address + "/api/figures", headers={"Host": "evil.example"}, timeout=30)
    assert elsewhere.status_code == 400


def test_the_verb_serves_until_it_is_stopped(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "openk2.cli", "watch"]
    with subprocess.Popen(
        [*command, str(made)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"{made} on http://127.0.0.1:")
        figures = httpx2.get(line.split()[-1] + "/api/figures", timeout=SECONDS).json()
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert figures["num_steps"] == 60
    wrong = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=SECONDS)
    assert wrong.returncode == 2
    assert wrong.stderr == f"openk2: {tmp_path} is no run's folder: it has neither recipe.toml nor rl/\n"


@needs_chromium
def test_looking_around(browser: Browser, server: Running) -> None:
    open_page(browser, server)
    assert text_of(browser, "#name") == "made"
    assert browser.do("document.querySelectorAll('.family polygon').length") == len(FAMILIES)
    assert "steps 55 to 60" in text_of(browser, "#stretch")
    assert "uniform group" in text_of(browser, "#counters")
    browser.do("document.querySelectorAll('.family')[4].click()")
    browser.wait_for("document.getElementById('among').textContent.endsWith(', math')")
    assert browser.do("document.querySelectorAll('.family')[4].getAttribute('aria-pressed')") == "true"
    assert browser.do("document.getElementById('family').value") == "math"
    browser.do("document.getElementById('back').click()")
    browser.wait_for("document.getElementById('stretch').textContent.startsWith('steps 54 to 59')")
    browser.wait_for("document.getElementById('among').textContent === '4 of step 59, math'")
    browser.do("document.getElementById('best').click()")
    browser.wait_for("document.getElementById('best').getAttribute('aria-pressed') === 'true'")
    browser.do("document.querySelector('#rows a').click()")
    browser.wait_for("document.querySelectorAll('#one .turn').length >= 2")
    assert "books" in text_of(browser, "#one .turn.user")
    assert "right number" in text_of(browser, "#one .parts")
    assert "staleness" in text_of(browser, "#one .facts")
    at = browser.do("location.hash")
    open_page(browser, server, at)
    browser.wait_for("document.querySelectorAll('#one .turn').length >= 2")
    browser.do("document.getElementById('now').click()")
    browser.wait_for("document.getElementById('stretch').textContent.startsWith('steps 55 to 60')")


@needs_chromium
def test_a_trace_that_is_not_there_is_said_where_it_would_stand(browser: Browser, server: Running) -> None:
    open_page(browser, server, "#open=59.999")
    browser.wait_for("document.querySelector('#one .error') !== null")
    browser.do("window.first = document.querySelector('#one .error'); document.getElementById('best').click()")
    browser.wait_for("!first.isConnected && document.querySelector('#one .error') !== null")
    assert "there is no number 999" in text_of(browser, "#one .error")
    assert browser.do("document.getElementById('error').hidden")


@needs_chromium
def test_a_value_is_read_off_a_chart(browser: Browser, server: Running, made: Path) -> None:
    open_page(browser, server)
    place = browser.do(
        "(() => { const box = [...document.querySelectorAll('#course figure')].find(f => f.textContent.startsWith('Sampling'))"
        ".querySelector('svg'); box.scrollIntoView(); const {right, top, height} = box.getBoundingClientRect(); return [right - 10, top + height / 2]; })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    browser.wait_for("document.querySelector('.tip') !== null")
    row = json.loads((made / "rl" / "metrics.jsonl").read_text().splitlines()[-1])
    step, value = text_of(browser, ".tip").removeprefix("step ").split(": ")
    assert step == "60"
    assert float(value) == pytest.approx(row["temperature"], abs=0.01)


@needs_chromium
def test_it_follows_a_run_without_flicker(browser: Browser, tmp_path: Path) -> None:
    with Running(application(Learning(tmp_path / "young"))) as server:
        browser.call("Page.navigate", url="about:blank")
        browser.open(f"{server.address}/", width=1200, height=900)
        browser.wait_for("!document.getElementById('empty').hidden")
        maker = Maker(tmp_path / "young")
        for step in (1, 2, 3):
            maker.step(step)
        browser.wait_for("document.title === 'step 3 · young'")
        browser.wait_for(LISTED)
        assert text_of(browser, "#status").startswith("last step")
        # The boxes stay the same ones, and a picture that did not change is not touched.
        browser.do(
            "window.kept = [...document.querySelectorAll('.family, #course figure, #newest div')]; window.gone = 0"
        )
        browser.do(
            "new MutationObserver(found => { for (const {removedNodes} of found) for (const node of removedNodes)"
            "if (node.matches?.('.family, figure, section, #newest div')) gone += 1; })"
            ".observe(document.body, {childList: true, subtree: true})"
        )
        maker.append("metrics", {"step": 4, "reward/code": 0.5, "temperature": 0.9})
        browser.wait_for("document.title === 'step 4 · young'")
        assert browser.do("kept.every(box => box.isConnected)")
        assert browser.do("gone") == 0
        (tmp_path / "young" / "rl" / "done.json").write_text("{}")
        browser.wait_for("document.getElementById('status').innerText.startsWith('finished')")
    browser.wait_for("document.getElementById('error').innerText.startsWith('The server does not answer')")


HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script></svg><script>document.title='owned'</script>\ud800"
FAMILY = HOSTILE[:-1]  # an address cannot carry half a surrogate pair


@needs_chromium
def test_hostile_text_stays_text(browser: Browser, tmp_path: Path) -> None:
    maker = Maker(tmp_path / "run")
    for step in range(1, 7):
        maker.append(
            "metrics",
            {"step": step, f"reward/{FAMILY}": step / 6, f"dropped/{HOSTILE}": 1, f"pass_rate/{FAMILY}": 0.5},
        )
        maker.append(
            "timeline", {"step": step, "spans": [{"worker": 0, "what": HOSTILE, "start": step, "end": step + 1}]}
        )
    call = {"id": HOSTILE, "type": "function", "function": {"name": HOSTILE, "arguments": HOSTILE}, "error": "bad_json"}
    trace = {
        "id": HOSTILE, "task_id": HOSTILE, "seed": 0, "stop_reason": HOSTILE, "info": {"family": FAMILY, "kind": HOSTILE, "error": HOSTILE, HOSTILE: HOSTILE},
        "messages": [{"role": role, "content": HOSTILE, "tool_calls": [call]} for role in ("system", "user", "assistant", "tool")],
        "tools": [{"type": "function", "function": {"name": HOSTILE, "description": HOSTILE}}],
        "score": {"total": 0.5, "parts": {HOSTILE: 0.5}},
    }  # fmt: skip
    (tmp_path / "run" / "rl" / "rollouts" / "step-000006.jsonl").write_text(json.dumps(trace) + "\n")
    with Running(application(Learning(tmp_path / "run"))) as server:
        open_page(browser, server, "#open=6.0")
        browser.wait_for("document.querySelectorAll('#one .turn').length === 2")
        for place in ("#families", "#counters", "#legend", "#rows", "#one"):
            assert HOSTILE[:40] in text_of(browser, place)
        browser.do("document.querySelector('.family').click()")
        browser.wait_for("document.querySelector('.family').getAttribute('aria-pressed') === 'true'")
        browser.do("new Promise(done => setTimeout(done, 200))")
        assert browser.do("document.images.length") == 0
        assert browser.do("document.scripts.length") == 1
        assert browser.do("document.title") == "step 6 · run"
        assert browser.do(FITS)


@needs_chromium
def test_it_fits_a_phone(browser: Browser, server: Running) -> None:
    open_page(browser, server, "#open=60.0", width=390)
    browser.wait_for("document.querySelectorAll('#one .turn').length > 0")
    assert browser.do("innerWidth") == 390
    assert browser.do(FITS)


@needs_chromium
def test_dark_and_light(browser: Browser, server: Running) -> None:
    assert_dark_and_light(browser, lambda: open_page(browser, server))
