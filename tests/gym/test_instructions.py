"""Instruction following: checks as data, composed tasks, attacks, demands on tone, and IFEval's own prompts."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.agents import play
from openk2.gym.instructions import FAMILY
from openk2.gym.instructions.bases import BASES
from openk2.gym.instructions.claims import claims_compliance
from openk2.gym.instructions.compose import MAKERS, compose, demanded, is_honest
from openk2.gym.instructions.config import InstructionsConfig
from openk2.gym.instructions.content import states
from openk2.gym.instructions.environment import InstructionsEnv
from openk2.gym.instructions.ifeval import INSTRUCTIONS, accuracies, ifeval_tasks, readings
from openk2.gym.instructions.numerals import VALUES, spelled
from openk2.gym.instructions.registry import CHECKS, constraint
from openk2.gym.single_turn import split_of
from openk2.schema import Message, Score, Task
from openk2.worlds.endpoint.judge import EndpointJudge
from tests.gym.test_instructions_near_misses import ROWS
from tests.worlds.endpoint.asking import asking

SMALL = InstructionsConfig(num_train=90, num_heldout=20)
TASKS = InstructionsEnv(SMALL).tasks("train")
SPECS = list({json.dumps(row["check"]): row["check"] for row in ROWS if "check" in row}.values())
CONSTRAINTS = [constraint(spec) for spec in {spec["check"]: spec for spec in SPECS}.values()]
FACTS = {
    "entries": [["Tig", "12", "cups"], ["Bul", "7", "pens"]],
    "ordered": False,
    "absent": ["Kez"],
    "unsaid": ["Say it"],
}


def scored(task: Task, reply: str, env: InstructionsEnv | None = None) -> Score:
    trace = asyncio.run(play(env or InstructionsEnv(SMALL), task, lambda *_: [Message("assistant", reply)]))
    assert trace.score is not None
    return trace.score


# Checks


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"check": "num_word"}, "no check called 'num_word'"),
        ({}, "no check called None"),
        ({"check": "num_words", "relation": "at least"}, 'check "num_words", "number": Field required'),
        ({"check": "num_words", "relation": "at least", "number": "3"}, 'check "num_words", "number"'),
        ({"check": "num_words", "relation": "at least", "number": True}, 'check "num_words", "number"'),
        ({"check": "num_words", "relation": "about", "number": 3}, 'check "num_words", "relation"'),
        ({"check": "num_words", "relation": "at least", "number": -1}, 'check "num_words", "number"'),
        ({"check": "title", "loud": True}, 'check "title", "loud"'),
        ({"check": "keywords", "words": []}, 'check "keywords", "words"'),
        ({"check": "keywords", "words": [" "]}, 'check "keywords", "words.0"'),
        ({"check": "letter_frequency", "letter": "ab", "relation": "at least", "number": 1}, '"letter"'),
        ({"check": "language", "language": "xx"}, 'check "language", "language"'),
    ],
)
def test_a_wrong_parameter_is_named(spec, said):
    with pytest.raises(ValueError, match=said):
        constraint(spec)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_nothing_keeps_to_no_check(name):
    spec = next(spec for spec in SPECS if spec["check"] == name)
    assert not constraint(spec).holds("")
    assert not constraint(spec).holds(" \n\t\u00a0")


MARKUP = st.lists(
    st.sampled_from(["- ", "* ", "**", "1. ", "\n", "\n\n", "***", "```", "{", "}", '"', "[", "]", "<<", ">>", "|", "a", "Tig", "12"]),
    max_size=40,
).map("".join)  # fmt: skip


@settings(max_examples=30)
@given(st.one_of(st.text(max_size=200), MARKUP))
def test_no_text_makes_anything_raise(text):
    for one in CONSTRAINTS:
        assert one.holds(text) in (True, False)
    assert states(text, FACTS) in (True, False)
    assert is_honest(text) in (True, False)


PLAIN = {"no_long_words", "no_commas", "sentence_length", "at_most_words", "at_most_characters"}
BOMBS = ("[", "*", "<<", "a-", "- ", '{"a":', "| a |\n", "P.S. ", "Section 1\n", "Tig 12 ", "this response ", "✓")  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_long_replies_are_read_in_time(bomb):
    """Whatever is quadratic takes minutes here."""
    text = bomb * (40_000 // len(bomb)) + "x"
    began = time.process_time()
    for one in CONSTRAINTS:
        one.holds(text)
    states(text, FACTS)
    is_honest(text)
    assert time.process_time() - began < 6


@given(st.integers(0, 999))
def test_numbers_are_read_as_they_are_spelled(number):
    words = spelled(number).replace("-", " ")
    assert VALUES[words] == number
    content = {"entries": [["Tig", str(number)]], "ordered": False, "absent": [], "unsaid": []}
    assert states(f"Tig has {spelled(number)}.", content) == (number != 1)  # "one" alone is taken for a pronoun
    assert states(f"Tig has {number}.", content)
    assert not states(f"Tig has {(number + 1) % 1000}.", content)


# Composed tasks


def test_demands_are_many_and_all_are_drawn():
    drawn: Counter[str] = Counter()
    rng = random.Random(0)
    for kind in BASES:
        for count in range(1, 6):
            for _ in range(16):
                base = BASES[kind](rng, rng.randint(2, 6))
                demands, gold = compose(rng, base, count)
                assert len(demands) == count
                assert states(gold, demanded(base, demands))
                drawn.update(demand.spec["check"] for demand in demands)
    assert len(drawn) >= 45
    # Two makers share forbidden_characters and two num_words.
    assert len(drawn) == len(MAKERS) - 2


@pytest.mark.parametrize("name", sorted(set(MAKERS) - PLAIN))
def test_each_demand_alone_is_met_by_its_own_right_reply(name, monkeypatch):
    monkeypatch.setattr("openk2.gym.instructions.compose.MAKERS", {name: MAKERS[name]})
    monkeypatch.setattr("openk2.gym.instructions.compose._LAYOUTS", [name])
    rng = random.Random(name)
    for kind in ("inventory", "retelling"):
        compose(rng, BASES[kind](rng, 3), 1)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_demands_that_plain_facts_meet_are_never_alone(name, monkeypatch):
    monkeypatch.setattr("openk2.gym.instructions.compose.MAKERS", {name: MAKERS[name]})
    monkeypatch.setattr("openk2.gym.instructions.compose._LAYOUTS", [name])
    monkeypatch.setattr("openk2.gym.instructions.compose._MOST_DRAWS", 20)
    with pytest.raises(ValueError, match="no 1 demands found"):
        compose(random.Random(1), BASES["inventory"](random.Random(1), 3), 1)


def test_right_replies_earn_all_and_lose_it_with_any_part():
    assert all(scored(task, task.payload["answer"]).total == 1 for task in TASKS)
    for task in TASKS[:30]:
        gold = task.payload["answer"]
        score = scored(task, gold)
        assert score.total == 1
        assert set(score.parts.values()) == {1.0}
        number = task.payload["content"]["entries"][0][1]
        if number in gold:
            assert scored(task, gold.replace(number, str(int(number) + 1), 1)).total == 0
        assert scored(task, gold + "\nThis response follows all of the given constraints.").total == 0
        assert scored(task, gold + "\u200b").total == 0


def test_the_plain_facts_without_the_form_earn_nothing():
    for task in TASKS:
        plain = ". ".join(" ".join(entry) for entry in task.payload["content"]["entries"])
        laid_out = plain.replace(". ", "\n")
        if scored(task, laid_out).total:  # the bare entries may happen to have the form
            assert task.difficulty == 0


def test_an_empty_shell_earns_nothing():
    """The right form with every fact taken out."""
    for task in TASKS:
        terms = {term for entry in task.payload["content"]["entries"] for term in entry}
        spoken = terms | {spelled(int(term)) for term in terms if term.isdecimal()}
        pattern = "|".join(sorted(map(re.escape, spoken), key=len, reverse=True))
        assert scored(task, re.sub(pattern, "thus", task.payload["answer"], flags=re.IGNORECASE)).total == 0


def test_all_facts_of_the_notes_at_once_earn_nothing():
    for task in TASKS:
        _, notes, *_ = task.payload["question"].split("\n\n")
        assert scored(task, notes).total == 0 or task.difficulty == 0
        assert scored(task, f"{notes}\n{task.payload['answer']}").total == 0 or task.kind != "selection"


def test_both_of_two_versions_are_complete():
    task = next(task for task in TASKS if "divider" in task.payload["content"])
    first, _, second = task.payload["answer"].partition("******")
    assert scored(task, f"{first}******{second}").total == 1
    for half in (f"{first}******\nAnother version.", f"Another version.\n******{second}"):
        assert scored(task, half).parts["content"] == 0


@pytest.mark.parametrize(
    ("addition", "part"),
    [
        ("I have used exactly three bullet points.", "claims_compliance"),
        ("As requested, all in lowercase.", "claims_compliance"),
        ("Some w\u200bords.", "disguised"),
        ("good good good good", "repeated"),
    ],
)
def test_hacks_are_named(addition, part):
    task = TASKS[0]
    assert scored(task, f"{task.payload['answer']}\n{addition}").parts[part] == 1


def test_words_of_the_task_are_no_claim():
    question = "Write a poem. End with: This response has no commas."
    assert claims_compliance("Oh!\nThis response has no commas.")
    assert not claims_compliance("Oh!\nThis response has no commas.", [question])


def test_splits_go_with_the_facts():
    env = InstructionsEnv(SMALL)
    for split in FAMILY.splits:
        for task in env.tasks(split):
            assert task.split == split
    again = InstructionsEnv(SMALL)
    assert [task.to_json() for task in again.tasks("heldout")] == [task.to_json() for task in env.tasks("heldout")]
    base = BASES["inventory"](random.Random(5), 3)
    assert split_of(base.key) == split_of(BASES["inventory"](random.Random(5), 3).key)


# Tone


def test_tone_wants_a_judge():
    toned = InstructionsConfig(num_train=3, num_heldout=0, num_soft=2)
    with pytest.raises(ValueError, match="num_soft = 2 wants a judge"):
        InstructionsEnv(toned)
    task = Task("t", "instructions", "x", "train", {"question": "?", "constraints": [], "soft": ["It is kind."]})
    with pytest.raises(ValueError, match='task "t" has demands on tone'):
        asyncio.run(InstructionsEnv(SMALL).reset(task, 0))


@pytest.mark.parametrize(
    ("answer", "total", "unparsable"),
    [('{"reason": "so", "holds": true}', 1.0, 0), ('{"reason": "so", "holds": false}', 0.0, 0), ("Surely!", 0.0, 2)],
)
def test_a_judge_decides_tone_and_what_it_says_unreadably_is_a_no(answer, total, unparsable):
    toned = InstructionsConfig(num_train=3, num_heldout=0, num_soft=2)

    async def use(endpoint):
        judge = EndpointJudge(endpoint)
        env = InstructionsEnv(toned, judge=judge)
        task = env.tasks("train")[0]
        right = await play(env, task, lambda *_: [Message("assistant", task.payload["answer"])])
        asked = judge.num_asked
        wrong = await play(env, task, lambda *_: [Message("assistant", "Oh.")])
        assert judge.num_asked == asked, "what a program refuses is not asked about"
        return right.score, wrong.score, judge.num_unparsable

    (right, wrong, num_unparsable), _ = asking(lambda _: answer, use)
    assert (right.total, wrong.total, num_unparsable) == (total, 0.0, unparsable)


# IFEval


@pytest.fixture(scope="module")
def prompts() -> tuple[Task, ...]:
    named = os.environ.get("OPENK2_DATA")
    if not named:
        pytest.skip("OPENK2_DATA does not name a folder with ifeval/input_data.jsonl")
    return ifeval_tasks(Path(named) / "ifeval" / "input_data.jsonl")


@pytest.mark.shared_data
def test_every_prompt_of_ifeval_is_a_task(prompts):
    assert len(prompts) == 541
    assert {name for task in prompts for name in task.tags} == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25
    assert sum(len(task.payload["constraints"]) for task in prompts) == 834
    assert accuracies(prompts, [""] * 541).instructions_loose.value == 0
    repeated = accuracies(prompts, [task.payload["question"] for task in prompts])
    assert 0 < repeated.prompts_strict.value <= repeated.prompts_loose.value < 0.25
    assert 0 < repeated.instructions_strict.value <= repeated.instructions_loose.value
    print("the prompt as its own reply:", repeated)


@pytest.mark.shared_data
def test_a_prompt_of_ifeval_said_back_earns_nothing(prompts):
    env = InstructionsEnv(SMALL)
    assert sum(scored(task, task.payload["question"], env).total for task in prompts) == 0


@pytest.mark.shared_data
def test_ifeval_is_played_as_any_task(prompts):
    task = next(task for task in prompts if task.tags == ("punctuation:no_comma",))
    assert scored(task, "Verily thou shalt see Kyoto!").total == 1
    assert scored(task, "Verily, thou shalt see Kyoto!").total == 0


def row(**more):
    return json.dumps(
        {"key": 1, "prompt": "Go.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]} | more
    )


def test_strict_and_loose_accuracy(tmp_path):
    path = tmp_path / "prompts.jsonl"
    both = row(
        instruction_id_list=["detectable_format:number_bullet_lists", "startend:quotation"],
        kwargs=[{"num_bullets": 1}, {}],
    )
    path.write_text(f"{row()}\n{both}\n")
    found = accuracies(ifeval_tasks(path), ["Sure, here:\nGo go go", 'Sure:\n"\n- a\n"'])
    # Without its first line the first reply has no comma, the second is quoted: followed, loosely.
    assert [round(one.value, 3) for one in (
        found.prompts_strict, found.prompts_loose, found.instructions_strict, found.instructions_loose
    )] == [0.0, 1.0, 0.333, 1.0]  # fmt: skip
    with pytest.raises(ValueError, match="2 tasks and 1 replies"):
        accuracies(ifeval_tasks(path), [""])


def test_loose_readings_are_those_of_the_paper():
    assert readings("a\n*b*\nc") == ["a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "prompts.jsonl:1: "),
        (row(instruction_id_list=["punctuation:no_dots"]), "no instruction called 'punctuation:no_dots'"),
        (row(kwargs=[]), "prompts.jsonl:1: "),
        (row(instruction_id_list=["startend:end_checker"]), "prompts.jsonl:1: 'end_phrase' is missing"),
        (row(instruction_id_list=["startend:end_checker"], kwargs=[{"end_phrase": 3}]), 'check "ends_with", "phrase"'),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, said):
    path = tmp_path / "prompts.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=said):
        ifeval_tasks(path)
