"""The page, in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from openk2.engine.server.app import PAGE
from tests.engine.server.browser import Browser
from tests.engine.server.conftest import Running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: sudo apt install chromium)")
TOOLS = json.dumps(
    [{"type": "function", "function": {"name": "get_order", "parameters": {
        "type": "object", "properties": {"order": {"enum": ["K-1", "K-2"]}}, "required": ["order"],
        "additionalProperties": False}}}]
)  # fmt: skip
IDLE = "document.getElementById('send').textContent !== 'Stop'"
FITS = "document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def fill(browser: Browser, name: str, value: str) -> None:
    browser.do(f"void (document.getElementById({name!r}).value = {json.dumps(value)})")


def send(browser: Browser, text: str) -> None:
    fill(browser, "say", text)
    browser.do("document.getElementById('composer').requestSubmit()")


def test_nothing_comes_from_elsewhere() -> None:
    assert "http://" not in PAGE
    assert "https://" not in PAGE
    assert "innerHTML" not in PAGE  # what a model writes is never markup


@needs_chromium
def test_a_dialogue(browser: Browser, server: Running) -> None:
    browser.open(server.address, width=1000, height=800)
    browser.wait_for("document.getElementById('model').textContent === 'tiny'")
    fill(browser, "max_tokens", "30")
    send(browser, "<b>hello</b>")
    browser.wait_for(f"{IDLE} && document.querySelectorAll('.figures').length === 1")
    assert browser.do("document.querySelector('.user').textContent") == "<b>hello</b>"
    assert browser.do("document.querySelector('.assistant').textContent")
    assert " tokens, " in browser.do("document.querySelector('.figures').textContent")
    send(browser, "again")
    browser.wait_for(f"{IDLE} && document.querySelectorAll('.figures').length === 2")
    assert browser.do("messages.map(message => message.role).join()") == "user,assistant,user,assistant"
    browser.do("document.getElementById('fresh').click()")
    assert browser.do("document.querySelectorAll('.turn').length") == 0


@needs_chromium
def test_calls_are_shown_and_answered(browser: Browser, server: Running) -> None:
    browser.open(server.address, width=1000, height=800)
    fill(browser, "tools", TOOLS)
    fill(browser, "tool_choice", "required")
    fill(browser, "max_tokens", "300")
    send(browser, "Where is K-1?")
    browser.wait_for(f"{IDLE} && document.querySelectorAll('.figures').length === 1")
    assert browser.do("document.querySelector('.call b').textContent") == "get_order"
    assert json.loads(browser.do("document.querySelector('.call pre').textContent"))["order"] in ("K-1", "K-2")
    browser.do("document.querySelectorAll('.result').forEach(box => box.value = 'shipped')")
    fill(browser, "tool_choice", "none")
    fill(browser, "max_tokens", "20")
    browser.do("document.getElementById('composer').requestSubmit()")
    browser.wait_for(f"{IDLE} && document.querySelectorAll('.figures').length === 2")
    roles = browser.do("messages.map(message => message.role)")
    assert roles[:2] == ["user", "assistant"]
    assert set(roles[2:-1]) == {"tool"}
    assert roles[-1] == "assistant"
    assert not browser.do("document.querySelector('.error')?.textContent")


@needs_chromium
def test_a_refusal_is_shown(browser: Browser, server: Running) -> None:
    browser.open(server.address, width=1000, height=800)
    fill(browser, "tools", "[oh")
    send(browser, "hi")
    browser.wait_for("document.querySelector('.error') !== null")
    assert "no JSON" in browser.do("document.querySelector('.error').textContent")
    fill(browser, "tools", "")
    fill(browser, "temperature", "3")
    send(browser, "hi")
    browser.wait_for("document.querySelectorAll('.error').length === 2")
    assert "temperature" in browser.do("document.querySelectorAll('.error')[1].textContent")


@needs_chromium
def test_it_fits_a_phone(browser: Browser, server: Running) -> None:
    browser.open(server.address, width=390, height=844)
    assert browser.do(FITS)
    browser.do("document.getElementById('adjust').click()")
    assert browser.do(FITS)
    fill(browser, "tools", TOOLS)
    fill(browser, "tool_choice", "required")
    fill(browser, "max_tokens", "120")
    send(browser, "x" * 300)
    browser.wait_for(f"{IDLE} && document.querySelector('.figures') !== null")
    assert browser.do(FITS)
    assert browser.do("innerWidth") == 390


@needs_chromium
def test_dark_and_light(browser: Browser, server: Running, tmp_path: Path) -> None:
    grounds = []
    for theme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.call("Emulation.setEmulatedMedia", features=[feature])
        browser.open(server.address, width=1000, height=800)
        grounds.append(browser.do("getComputedStyle(document.body).backgroundColor"))
    browser.do("document.getElementById('theme').click()")
    grounds.append(browser.do("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] == grounds[2] != grounds[1]
