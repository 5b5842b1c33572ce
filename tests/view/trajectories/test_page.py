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

from openk2.view.trajectories.app import PAGE
from openk2.view.trajectories.catalog import Catalog
from openk2.view.trajectories.sources import open_sources
from tests.engine.server.browser import Browser
from tests.view.running import assert_dark_and_light
from tests.view.trajectories.conftest import Made, Running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: sudo apt install chromium)")
FITS = "document.documentElement.scrollWidth <= innerWidth"
LISTED = "!document.getElementById('browse').hidden && document.querySelectorAll('a.row').length > 0"
READING = "!document.getElementById('read').hidden"
SECONDS = 30.0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def text_of(browser: Browser, selector: str) -> str:
    return str(browser.do(f"document.querySelector({selector!r}).innerText"))


def listed(browser: Browser) -> list[str]:
    found = browser.do("[...document.querySelectorAll('a.row .id')].map(box => box.textContent)")
    assert isinstance(found, list)
    return found


def press(browser: Browser, key: str) -> None:
    browser.do(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}, bubbles: true}}))")


def set_filter(browser: Browser, name: str, value: str) -> None:
    browser.do(
        f"(() => {{ const field = document.getElementById('filters').elements[{name!r}]; field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def open_page(browser: Browser, server: Running, at: str = "", *, width: int = 1200) -> None:
    browser.call("Page.navigate", url="about:blank")  # a new hash alone would not load the page again
    browser.open(f"{server.address}/{at}", width=width, height=850)
    browser.wait_for(READING if "id=" in at else LISTED)


def test_nothing_comes_from_elsewhere() -> None:
    for word in ("http://", "https://", "innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
        assert word not in PAGE


def test_answers_over_http(server: Running, made: Made) -> None:
    page = server.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    overview = server.get("/api/overview").json()
    assert overview["count"] == len(made.all)
    assert dict(overview["choices"]["outcome"]) == {"passed": len(made.kept), "rejected": len(made.rejected)}
    second = server.get("/api/list", size=7, page=1, outcome="passed").json()
    assert [row["id"] for row in second["rows"]] == [record["id"] for record in made.kept[7:14]]
    between = server.get("/api/trajectory", id=made.kept[5]["id"], outcome="passed").json()
    assert (between["previous"], between["place"], between["next"]) == (made.kept[4]["id"], 5, made.kept[6]["id"])
    outside = server.get("/api/trajectory", id=made.kept[5]["id"], outcome="rejected").json()
    assert (outside["previous"], outside["place"], outside["count"]) == (None, None, len(made.rejected))


def test_refusals_over_http(server: Running) -> None:
    for path, parameters, status, words in (
        ("/api/list", {"sise": 3}, 400, "sise: Extra inputs"),
        ("/api/list", {"min_calls": "many"}, 400, "min_calls: Input should be a valid integer"),
        ("/api/list", {"size": 100_000}, 400, "size: Input should be less than or equal to 500"),
        ("/api/trajectory", {"id": "nobody"}, 404, "there is no trajectory 'nobody'"),
    ):
        answer = server.get(path, **parameters)
        assert answer.status_code == status
        assert words in answer.json()["error"]
    elsewhere = httpx2.get(server.address + "/api/overview", headers={"Host": "evil.example"}, timeout=30)
    assert elsewhere.status_code == 400


def test_the_verb_serves_until_it_is_stopped(made: Made) -> None:
    command = [sys.executable, "-m", "openk2.cli", "view", str(made.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"{len(made.all)} trajectories on http://127.0.0.1:")
        overview = httpx2.get(line.split()[-1] + "/api/overview", timeout=SECONDS).json()
        port = line.strip().rsplit(":", 1)[1]
        taken = subprocess.run([*command, "--port", port], capture_output=True, text=True, timeout=SECONDS)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert overview["funnel"] == json.loads((made.folder / "funnel.json").read_text())
    assert taken.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in taken.stderr


@needs_chromium
def test_browsing_and_filtering(browser: Browser, server: Running, made: Made) -> None:
    open_page(browser, server)
    assert text_of(browser, ".count") == str(len(made.all))
    assert text_of(browser, ".rate") == f"{100 * len(made.kept) / len(made.all):.1f} %"
    assert f"{len(made.kept)} of {len(made.all)} kept" in text_of(browser, "#summary")
    assert browser.do("document.querySelectorAll('.bars div').length") == 13
    assert listed(browser) == [record["id"] for record in made.all[:50]]
    browser.do("document.getElementById('on').click()")
    browser.wait_for(f"document.querySelector('a.row .id').textContent === {made.all[50]['id']!r}")
    set_filter(browser, "outcome", "rejected")
    browser.wait_for(f"document.querySelector('.count').textContent === '{len(made.rejected)}'")
    assert listed(browser) == [record["id"] for record in made.rejected[:50]]
    set_filter(browser, "text", "no such words anywhere")
    browser.wait_for("document.querySelector('.count').textContent === '0'")
    assert "Nothing passes these filters." in text_of(browser, "#rows")


@needs_chromium
def test_reading_with_the_keyboard(browser: Browser, server: Running, made: Made) -> None:
    open_page(browser, server, "#outcome=rejected&fault=true")
    ids = [record["id"] for record in made.rejected if any(called["fault"] for called in record["calls"])]
    assert listed(browser) == ids
    press(browser, "j")
    press(browser, "Enter")
    browser.wait_for(f"{READING} && document.title.startsWith({ids[1]!r})")
    assert "⚡ fault: temporary failure, retry" in text_of(browser, ".call.struck")
    record = next(record for record in made.rejected if record["id"] == ids[1])
    assert browser.do("document.querySelectorAll('.call').length") == len(record["calls"])
    for name, value in record["score"]["parts"].items():
        assert f"{'✓' if value else '✗'} {name}" in text_of(browser, "aside")
    assert record["agent"]["role"] in text_of(browser, "aside")
    press(browser, "k")
    browser.wait_for(f"document.title.startsWith({ids[0]!r})")
    assert text_of(browser, "#place") == f"1 of {len(ids)}"
    assert browser.do("document.getElementById('previous').disabled")
    press(browser, "Escape")
    browser.wait_for(LISTED)
    assert listed(browser) == ids


@needs_chromium
def test_a_link_opens_a_trajectory(browser: Browser, server: Running, made: Made) -> None:
    record = next(r for r in made.kept if any(called["changes"] for called in r["calls"]))
    open_page(browser, server, f"#id={record['id']}")
    change = next(change for called in record["calls"] for change in called["changes"])
    assert f"± {change['app']} {change['entity']} {change['key']}" in text_of(browser, ".changes")
    assert record["messages"][0]["content"] == text_of(browser, ".turn.user")
    open_page(browser, server)
    browser.do("location.hash = 'id=nobody'")
    browser.wait_for("!document.getElementById('error').hidden")
    assert "there is no trajectory 'nobody'" in text_of(browser, "#error")


HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>\ud800"


@needs_chromium
def test_hostile_text_stays_text(browser: Browser, tmp_path: Path) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": HOSTILE, "arguments": HOSTILE}}]
    record = {
        "id": HOSTILE[:-1], "split": HOSTILE, "kind": HOSTILE, "tags": [HOSTILE], "stage": HOSTILE, "reason": HOSTILE,
        "messages": [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE, "tool_calls": calls}],
        "tools": [{"type": "function", "function": {"name": HOSTILE, "description": HOSTILE}}],
        "rubric": {"items": [{"name": HOSTILE, "check": HOSTILE, "spec": {HOSTILE: HOSTILE}}]},
        "agent": {HOSTILE: HOSTILE}, "user": {HOSTILE: [HOSTILE]}, "state": {"before": HOSTILE}, "provenance": {HOSTILE: 1},
        "calls": [{"name": HOSTILE, "result": HOSTILE, "fault": HOSTILE, "changes": [
            {"app": HOSTILE, "entity": HOSTILE, "key": HOSTILE, "field": HOSTILE, "before": HOSTILE, "after": HOSTILE}]}],
    }  # fmt: skip
    (tmp_path / "hostile.jsonl").write_text(json.dumps(record) + "\n")
    with Running(Catalog(open_sources(tmp_path / "hostile.jsonl"))) as server:
        open_page(browser, server)
        assert HOSTILE[:-1] in text_of(browser, ".row .request")
        browser.do("document.querySelector('a.row').click()")
        browser.wait_for(f"{READING} && document.querySelectorAll('.call').length === 1")
        shown = text_of(browser, "#one")
        assert shown.count(HOSTILE[:-1]) > 12
        browser.do("new Promise(done => setTimeout(done, 200))")
        assert browser.do("document.images.length + document.querySelectorAll('#one script, #rows script').length") == 0
        assert browser.do("document.scripts.length") == 1
        assert "owned" not in browser.do("document.title").replace(HOSTILE[:-1], "")
        assert browser.do(FITS)


@needs_chromium
@pytest.mark.parametrize("at", ["", "#id=OPENED"])
def test_it_fits_a_phone(browser: Browser, server: Running, made: Made, at: str) -> None:
    long = max(made.all, key=lambda record: len(json.dumps(record["calls"])))
    open_page(browser, server, at.replace("OPENED", long["id"]), width=390)
    assert browser.do("innerWidth") == 390
    assert browser.do(FITS)


@needs_chromium
def test_dark_and_light(browser: Browser, server: Running) -> None:
    assert_dark_and_light(browser, lambda: open_page(browser, server))
