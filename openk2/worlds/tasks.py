"""Tasks: pure data, made from (config, split, index) alone, backwards from a goal, each with its rubric (K2 §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import overload

from openk2.schema import JSON, Rubric, RubricItem, Task
from openk2.worlds.config import WorldsConfig
from openk2.worlds.domains import find_app
from openk2.worlds.draft import Draft, Goal
from openk2.worlds.kinds import KINDS
from openk2.worlds.skins import rename
from openk2.worlds.spec import App, Tool, restrict
from openk2.worlds.users import say
from openk2.worlds.values import Pool

SHOWN = (2, 3)  # fields that a reading tool returns at most, by chance: results stay short


class Split(Sequence[Task]):
    """The tasks of a split, made when asked for."""

    def __init__(self, config: WorldsConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._length = config.num_tasks(name)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [make_task(self._config, self._name, i) for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"{self._name} has {self._length} tasks, no number {index}")
        return make_task(self._config, self._name, index % self._length)


def make_task(config: WorldsConfig, split: str, index: int) -> Task:
    """Task ``index`` of a split. Raises ValueError for an unknown split, app or kind."""
    rng = Random(f"{config.seed}/{split}/{index}")
    app_name, kind_name, tag = _choose(config, split, rng)
    app = find_app(app_name)
    needed = rng.choice(_options(app_name, kind_name))
    declared = [*needed, *_distractors(config, app, needed, rng)]
    app = restrict(app, declared)
    tags = [app_name] if not tag else [app_name, tag]
    if split == "train" and rng.random() < config.share_renamed:
        app = rename(app, rng)
        tags.append("renamed")
    app = _shorten(app, rng)
    draft = Draft(app, rng, Pool(rng, heldout=split not in ("train", "undemonstrated")))
    goal = KINDS[kind_name].write(draft, app.tools[: len(needed)])
    _add_bystanders(draft)
    payload = _payload(draft, goal, say(kind_name, rng, goal.slots))
    rubric = Rubric((*goal.items, RubricItem("nothing_else", "state", {"only": [list(key) for key in goal.touched]})))
    return Task(f"{split}-{index:06d}", "tools", kind_name, split, payload, rubric, tuple(tags))


def _choose(config: WorldsConfig, split: str, rng: Random) -> tuple[str, str, str]:
    """App, kind, and what is new about them to a model that saw the demonstrations."""
    known = tuple(name for name in KINDS if name not in config.undemonstrated_kinds)
    if split in ("train", "heldout"):
        apps, kinds, tag = config.demonstrated, known, ""
    elif split == "unseen_domain":
        apps, kinds, tag = config.unseen, known, "unseen_app"
    elif config.undemonstrated and (not config.undemonstrated_kinds or rng.random() < 0.5):
        apps, kinds, tag = config.undemonstrated, known, "new_app"
    else:
        apps, kinds, tag = config.demonstrated, config.undemonstrated_kinds, "new_kind"
    kind = rng.choice(kinds)
    fitting = [name for name in apps if _options(name, kind)]
    if not fitting:
        raise ValueError(f"none of the apps {', '.join(apps)} has tools for tasks of kind {kind!r}")
    return rng.choice(fitting), kind, tag


@cache
def _options(app: str, kind: str) -> tuple[tuple[Tool, ...], ...]:
    if kind not in KINDS:
        raise ValueError(f"no task kind called {kind!r}; there are {', '.join(KINDS)}")
    return tuple(KINDS[kind].options(find_app(app)))


def _distractors(config: WorldsConfig, app: App, needed: tuple[Tool, ...], rng: Random) -> list[Tool]:
    others = [tool for tool in app.tools if tool not in needed]
    num_others = max(rng.randint(*config.num_tools) - len(needed), 1)
    return rng.sample(others, min(num_others, len(others)))


def _shorten(app: App, rng: Random) -> App:
    """Let reading tools show few fields: what leads on, and others by chance, of those that nobody searches by."""
    tools = []
    for tool in app.tools:
        shown = rng.choice(SHOWN)
        if len(tool.returns) > shown:
            entity = app.entity(tool.entity)
            at_hand = {other.name for other in app.entities}
            linked = [name for name in tool.returns if entity.field(name).ref in at_hand]
            moved = [t.field for t in app.tools if t.op == "transition" and t.entity == tool.entity]
            keep = set(linked[:1] + [name for name in moved[:1] if name in tool.returns])
            searched = {t.field for t in app.tools if t.op == "find" and t.entity == tool.entity}
            rest = [name for name in tool.returns if name not in keep | searched]
            keep.update(rng.sample(rest, min(max(shown - len(keep), 1), len(rest))))
            tool = replace(tool, returns=tuple(name for name in tool.returns if name in keep))
        tools.append(tool)
    return App(app.name, app.entities, tuple(tools))


def _add_bystanders(draft: Draft) -> None:
    """Other records, so that a wrong key changes something."""
    for entity in draft.app.entities:
        for _ in range(draft.rng.randint(1, 2)):
            draft.row(entity)
        draft.rng.shuffle(draft.rows[entity.name])


def _payload(draft: Draft, goal: Goal, request: str) -> JSON:
    order = draft.rng.sample(draft.app.tools, len(draft.app.tools))
    return {
        "app": App(draft.app.name, draft.app.entities, tuple(order)).to_json(),
        "rows": draft.rows,
        "fresh": draft.fresh,
        "request": request,
        "plan": [{"tool": tool.name, "arguments": arguments} for tool, arguments in goal.steps],
        "slots": goal.slots,
    }
