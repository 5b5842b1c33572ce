"""Writing a long task: apps, an agent with tools and distractors, a user, goals, and the rubric they leave behind (K2 §3.1).

The goals' records are laid out first; then the goals are played in the world itself, which proves that they can be
reached. The rubric is what that changed, record by record, and what the answers told: nothing beside it is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openk2.schema import JSON, Rubric, RubricItem, ToolCall
from openk2.worlds.judge import strays
from openk2.worlds.policies import policies
from openk2.worlds.scenario.agent import make_agent
from openk2.worlds.scenario.conversation import Scenario
from openk2.worlds.scenario.faults import NO_FAULTS
from openk2.worlds.scenario.goals import Tools
from openk2.worlds.scenario.hands import choose, instructions
from openk2.worlds.scenario.places import GOALS, Place
from openk2.worlds.scenario.records import Records
from openk2.worlds.scenario.script import Ask, Call, Fact, Goal, Tell, Turn
from openk2.worlds.scenario.user import CLOSINGS, join, make_user
from openk2.worlds.scenario.world import Stage, World
from openk2.worlds.simulator import encode
from openk2.worlds.spec import App, restrict
from openk2.worlds.values import Pool

USER_ACTS = "user_acts"  # the tag of tasks in which the user holds tools
# Rules that a system prompt repeats; the systems themselves hold all of them.
_MOST_RULES = 5


class ScenarioConfig(BaseModel):
    """How long tasks are, and how much stands around in them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, description="Seed of every task.")
    num_agents: int = Field(2000, ge=1, description="Agents that tasks are given to.")
    num_apps: tuple[int, int] = Field((1, 3), description="Fewest and most apps of a task.")
    num_goals: tuple[int, int] = Field((2, 6), description="Fewest and most goals of a task.")
    share_long: float = Field(0.02, ge=0, le=1, description="Share of tasks with ten times as many goals.")
    num_distractors: tuple[int, int] = Field((3, 8), description="Fewest and most tools that no goal needs.")
    share_joined: float = Field(
        0.3, ge=0, le=1, description="Chance that a user asks for the next goal in the same breath."
    )
    share_user_acts: float = Field(
        0.0, ge=0, le=1, description="Share of tasks in which the user holds tools that the agent must ask for."
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> ScenarioConfig:
        for key, least in (("num_apps", 1), ("num_goals", 1), ("num_distractors", 0)):
            fewest, most = getattr(self, key)
            if not least <= fewest <= most:
                raise ValueError(f"{key} is (fewest, most), at least {least}; got {fewest} and {most}")
        return self


@dataclass(slots=True)
class _Planned:
    """A goal on its way: its app, and its words and calls still to come."""

    app: App
    kind: str
    goal: Goal
    first: Ask


def write_scenario(config: ScenarioConfig, split: str, index: int, places: Sequence[Place]) -> Scenario:
    """Task ``index`` of a split in these apps, the same each time. Raises ValueError where an app allows no goal."""
    rng = Random(f"scenario/{config.seed}/{split}/{index}")
    pool = Pool(rng, heldout=split != "train")
    apps = [place.app for place in places]
    chosen = _choose(config, places, rng)
    names = _names(config, apps, chosen, rng)
    drafts = {app.name: Records(_needed(app, names), rng, pool) for app in apps}
    planned = [_plan(drafts[app.name], kind, tools) for app, kind, tools in chosen]
    for draft in drafts.values():
        _add_bystanders(draft)
    stages = tuple(Stage(draft.app, draft.rows, draft.fresh) for draft in drafts.values())
    user = make_user(rng)
    world = World(stages, names, 0, NO_FAULTS)
    try:
        turns, items = _Script(world, names, rng, config.share_joined).play(planned)
        guards, outcome = _outcome(world)
        # Whoever looks from the end on sees first what takes the whole plan.
        items = [*guards, _no_list(world, turns), *items, *outcome]
    finally:
        world.close()
    turns = [Turn(user.say(turn.say, rng), turn.calls, turn.answer) for turn in turns]
    if rng.random() < 0.2:
        turns[-1].say += f" {rng.choice(CLOSINGS)}"
    rules = [rule for draft in drafts.values() for tool in draft.app.tools for rule in policies(draft.app, tool)]
    rules = rng.sample(rules, min(len(rules), _MOST_RULES))
    agent = make_agent(config.seed, rng.randrange(config.num_agents), [_spoken(app.name) for app in apps], rules)
    kinds = sorted({plan.kind for plan in planned})
    kind = f"{len(planned)} goals" if len(planned) > 1 else kinds[0]
    scenario = Scenario(
        f"{split}-{index:06d}", kind, split, stages, names, agent, user, tuple(turns), Rubric(tuple(items)),
        (*(app.name for app in apps), *kinds),
    )  # fmt: skip
    rng = Random(f"hands/{config.seed}/{split}/{index}")  # its own draws: the other tasks stay as they are
    return _shared(scenario, rng) if rng.random() < config.share_user_acts else scenario


def _shared(scenario: Scenario, rng: Random) -> Scenario:
    """The task with some of its tools in the user's hands, where it has any that can be."""
    specs = {spec.name: spec for spec in scenario.tools}
    held = choose([step for turn in scenario.turns for step in turn.calls], specs, rng)
    if not held:
        return scenario
    prompt = f"{scenario.agent.prompt} {instructions([specs[name] for name in held])}"
    return replace(scenario, agent=replace(scenario.agent, prompt=prompt), held=held, tags=(*scenario.tags, USER_ACTS))


# -- what it is about -------------------------------------------------------------------------


def _choose(config: ScenarioConfig, places: Sequence[Place], rng: Random) -> list[tuple[App, str, Tools]]:
    """App, kind and tools of each goal; every app has one at least."""
    num_goals = max(rng.randint(*config.num_goals), len(places))
    if rng.random() < config.share_long:
        num_goals *= 10
    owners = [*places, *(rng.choice(places) for _ in range(num_goals - len(places)))]
    rng.shuffle(owners)
    chosen = []
    for place in owners:
        if not place.options:
            raise ValueError(f"app {place.app.name} has no tools that a goal could be about")
        kind = rng.choice(list(place.options))
        chosen.append((place.app, kind, rng.choice(place.options[kind])))
    return chosen


def _names(
    config: ScenarioConfig, apps: Sequence[App], chosen: Sequence[tuple[App, str, Tools]], rng: Random
) -> dict[str, tuple[str, str]]:
    """The declared tools, needed ones and distractors: what the agent calls each, to its app and its name there."""
    declared = dict.fromkeys((app.name, tool.name) for app, _, tools in chosen for tool in tools)
    for _ in range(rng.randint(*config.num_distractors)):
        app = rng.choice(apps)
        declared[app.name, rng.choice(app.tools).name] = None
    places = list(declared)
    rng.shuffle(places)
    borne: dict[str, int] = {}
    for _, tool in places:
        borne[tool] = borne.get(tool, 0) + 1
    return {tool if borne[tool] == 1 else f"{app}_{tool}"[:64]: (app, tool) for app, tool in places}


def _needed(app: App, names: Mapping[str, tuple[str, str]]) -> App:
    """The app with its declared tools alone."""
    declared = {tool for owner, tool in names.values() if owner == app.name}
    return restrict(app, (tool for tool in app.tools if tool.name in declared))


def _plan(draft: Records, kind: str, tools: Tools) -> _Planned:
    """Let a goal lay out its records; it stops at the user's first words."""
    goal = GOALS[kind][1](draft, tools)
    first = next(goal)
    assert isinstance(first, Ask), f"{kind} begins with the user's words"
    return _Planned(draft.app, kind, goal, first)


def _add_bystanders(draft: Records) -> None:
    """Other records, so that a wrong key changes something."""
    for entity in draft.app.entities:
        for _ in range(draft.rng.randint(1, 2)):
            draft.row(entity)
        draft.rng.shuffle(draft.rows[entity.name])


def _spoken(name: str) -> str:
    return name.replace("_", " ")


# -- playing it -------------------------------------------------------------------------------


class _Script:
    """Plays goals in a world and writes down who said and called what."""

    def __init__(self, world: World, names: Mapping[str, tuple[str, str]], rng: Random, share_joined: float) -> None:
        self._world, self._rng, self._share_joined = world, rng, share_joined
        self._name_of = {place: name for name, place in names.items()}
        self._turns: list[Turn] = []
        self._items: list[RubricItem] = []

    def play(self, planned: Sequence[_Planned]) -> tuple[list[Turn], list[RubricItem]]:
        """All goals, one after the other; some are asked for in one message."""
        group: list[_Planned] = []
        for plan in planned:
            group.append(plan)
            if len(group) == 3 or self._rng.random() >= self._share_joined:
                self._play(group)
                group = []
        if group:
            self._play(group)
        return self._turns, self._items

    def _play(self, group: Sequence[_Planned]) -> None:
        self._turns.append(Turn(join([plan.first.text for plan in group], self._rng)))
        for plan in group:
            self._go_on(plan)

    def _go_on(self, plan: _Planned) -> None:
        """A goal from behind the user's first words to its end."""
        result: Any = None
        while True:
            try:
                said = plan.goal.send(result)
            except StopIteration:
                return
            result = None
            match said:
                case Ask(text):
                    self._turns.append(Turn(text))
                case Call():
                    result = self._call(plan.app, said)
                case Tell(text, facts):
                    self._tell(text, facts)

    def _call(self, app: App, call: Call) -> JSON:
        name = self._name_of[app.name, call.tool.name]
        step = {"tool": name, "arguments": call.arguments}
        self._turns[-1].calls.append(step)
        self._world.run(ToolCall("", name, encode(call.arguments)))
        result = self._world.log[-1].result
        if call.ends != "either way" and ("error" in result) != (call.ends == "refused"):
            raise ValueError(f"goals in each other's way: {call.tool.op} did not end as planned")
        if call.needed:
            self._items.append(RubricItem(f"looked_up_{len(self._items)}", "call", step, weight=0.5))
        return result

    def _tell(self, text: str, facts: Sequence[Fact]) -> None:
        turn = self._turns[-1]
        turn.answer = f"{turn.answer} {text}".strip()
        for fact in facts:
            spec: JSON = {"value": fact.value, "turn": len(self._turns) - 1}
            if fact.grounded:
                spec["grounded"] = True
            if fact.without:
                spec["without"] = list(fact.without)
            self._items.append(RubricItem(f"says_{len(self._items)}", "fact", spec))


def _outcome(world: World) -> tuple[list[RubricItem], list[RubricItem]]:
    """Guards over whatever has no business to change, at the end and on the way, and an item for each record that changed."""
    items: list[RubricItem] = []
    changed: list[list[str]] = []
    for entity, rows in world.rows().items():
        old_rows = world.initial[entity]
        for key in sorted(rows.keys() | old_rows.keys()):
            old, new = old_rows.get(key), rows.get(key)
            if old != new:
                changed.append([entity, key])
                spec: JSON = {"entity": entity, "key": key} | ({"gone": True} if new is None else {"has": new})
                items.append(RubricItem(f"state_{len(changed)}", "state", spec))
    touched = sorted({place for called in world.log for place in called.touched})
    guards = [
        RubricItem("nothing_else", "state", {"only": changed}),
        RubricItem("nothing_else_on_the_way", "state", {"touched": [list(place) for place in touched]}),
    ]
    return guards, items


def _no_list(world: World, turns: Sequence[Turn]) -> RubricItem:
    """Answers that name every record, so that the right one is among them, are none."""
    keys = {key for rows in (world.initial, world.rows()) for table in rows.values() for key in table}
    told = [turn.say for turn in turns] + [turn.answer for turn in turns]
    told += [encode([called.arguments, called.result]) for called in world.log]
    return RubricItem("no_list", "fact", {"known": sorted(strays("\n".join(told), (), keys))})
