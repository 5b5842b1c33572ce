"""Rules by which a `ChatServer` writes apps, words users, acts as a scenario's agent and judges, all well enough to go on."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from typing import Any

from openk2.worlds.evolve.author import AppId, ScriptedAuthor
from openk2.worlds.evolve.config import EvolveConfig
from openk2.worlds.scenario.conversation import Scenario
from openk2.worlds.scenario.faults import is_temporary
from openk2.worlds.scenario.hands import request
from openk2.worlds.scenario.script import Turn
from openk2.worlds.scenario.teacher import VAGUE

QUOTED = re.compile(r"<data name=\"[^\"]*\">\n(.*)\n</data>")

REPAIRED = "Coppermint"  # an app whose first draft is wrong


class Players:
    """All four parts. ``scenarios`` are those whose plan its agent knows; every seventh line is first said wrong."""

    def __init__(self, scenarios: Iterable[Scenario] = (), *, wordy: bool = True) -> None:
        self._turns = {turn.say: turn for scenario in scenarios for turn in scenario.turns}
        self._opening = "Here is what I need:" if wordy else ""

    def learn(self, record: dict[str, Any]) -> None:
        """The plan of a scenario from a faultless trajectory of it."""
        turn = Turn("")
        for message in record["messages"]:
            if message["role"] == "user":
                turn = self._turns[message["content"]] = Turn(message["content"])
            for call in message.get("tool_calls", ()):
                function = call["function"]
                turn.calls.append({"tool": function["name"], "arguments": json.loads(function["arguments"])})
            if message["role"] == "assistant" and "tool_calls" not in message:
                turn.answer = message["content"]

    def __call__(self, body: dict[str, Any]) -> str | dict[str, Any]:
        asked = body.get("response_format", {}).get("json_schema", {}).get("name")
        rule = {"app": self.author, "said": self.say, "Verdict": self.judge}.get(asked, self.act)
        said = rule(body)
        return said if isinstance(said, str) or "role" in said else json.dumps(said)

    def author(self, body: dict[str, Any]) -> dict[str, Any]:
        idea = shown(body)[0]
        app = ScriptedAuthor(EvolveConfig(num_entities=5)).author(AppId(idea["category"], idea["name of the app"]))
        if len(body["messages"]) == 2 and app.name == REPAIRED:
            return {"name": app.name, "entities": [], "tools": []}
        return app.to_json()

    def say(self, body: dict[str, Any]) -> dict[str, Any]:
        line = shown(body)[0]["line"]
        if len(body["messages"]) == 2 and chance(line, 7):
            return {"say": "Do the usual with record 990017."}
        return {"say": f"{self._opening} {line}".strip()}

    def judge(self, body: dict[str, Any]) -> dict[str, Any] | str:
        episode, statement = shown(body)
        if chance(json.dumps(episode) + statement, 50):
            return "10/10"
        answers = [said["content"] for said in episode if said["role"] == "assistant" and "tool_calls" not in said]
        return {"reason": "by its answers", "holds": not any(answer in VAGUE for answer in answers)}

    def act(self, body: dict[str, Any]) -> dict[str, Any] | str:
        turn, num_done = None, 0
        for message in body["messages"]:
            if message["role"] == "user" and (asked := self._turn(message["content"])) is not None:
                turn, num_done = asked, 0
            elif message["role"] in ("tool", "user"):  # a user who acts tells what a tool showed
                num_done += not is_temporary(json.loads(message["content"][message["content"].find("{") :]))
        if turn is None or num_done == len(turn.calls):
            return "I do not know." if turn is None else turn.answer
        step = turn.calls[num_done]
        if step["tool"] not in {tool["function"]["name"] for tool in body["tools"]}:
            return request(step)
        function = {"name": step["tool"], "arguments": json.dumps(step["arguments"])}
        call = {"id": "call_0", "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}

    def _turn(self, said: str) -> Turn | None:
        return self._turns.get(said.removeprefix(self._opening).strip())


def shown(body: dict[str, Any]) -> list[Any]:
    """What the first request quoted."""
    return [json.loads(text) for text in QUOTED.findall(body["messages"][1]["content"])]


def chance(text: str, one_in: int) -> bool:
    """The same for the same text."""
    return zlib.crc32(text.encode()) % one_in == 0
