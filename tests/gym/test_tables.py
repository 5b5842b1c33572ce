"""Tables: plain Python answers the questions from their text alone and agrees with SQLite; verifiers give nothing away."""

from __future__ import annotations

import asyncio
import csv
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.single_turn import Question
from openk2.gym.tables.data import draw_chain
from openk2.gym.tables.family import TablesConfig, TablesEnv, TablesKind, draw, verify
from openk2.gym.tables.query import Query, answer_of, database_of, lookup
from openk2.gym.tables.render import Layout, rendered
from openk2.schema import Task
from openk2.stats import wilson
from tests.gym import judged

KINDS: tuple[TablesKind, ...] = ("multi_hop", "aggregation")
LEVELS = (1, 2, 3)

Row = dict[str, Any]
Tables = dict[str, list[Row]]


@cache
def drawn(kind: TablesKind, level: int, count: int = 80) -> tuple[Question, ...]:
    rng = random.Random(f"{kind} {level}")
    return tuple(draw(kind, rng, level) for _ in range(count))


def task_of(kind: str, question: Question) -> Task:
    payload = {"question": question.text, "answer": question.answer, "options": list(question.options)}
    return Task("t", "tables", kind, "train", payload | question.facts)


def passes(reply: str, task: Task) -> bool:
    return asyncio.run(verify(reply, task)).passed


# ---------------------------------------------------------------------------------------------
# Reading the tables back
# ---------------------------------------------------------------------------------------------


def typed(cell: str) -> str | int:
    return int(cell) if cell.isdecimal() else cell


def tables_in(text: str) -> Tables:
    *blocks, _ = text.split("\n\n")
    if text.startswith("{"):
        (block,) = blocks
        return json.loads(block)
    tables: Tables = {}
    for block in blocks:
        title, *lines = block.splitlines()
        if title.startswith("### "):
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
        else:
            cells = list(csv.reader(lines))
        head, *rows = cells
        tables[title.removeprefix("### ").removesuffix(".csv")] = [
            dict(zip(head, map(typed, row), strict=True)) for row in rows
        ]
    return tables


@pytest.mark.parametrize("layout", ["markdown", "csv", "json"])
def test_tables_read_back_from_their_text(layout: Layout) -> None:
    rng = random.Random(0)
    for num_tables in (2, 3, 4):
        chain = draw_chain(rng, num_tables)
        shown = [*chain.tables, *chain.aside]
        assert tables_in(rendered(shown, layout) + "\n\nWhat?") == {
            table.noun.many: [dict(zip(table.columns, row, strict=True)) for row in table.rows] for table in shown
        }


# ---------------------------------------------------------------------------------------------
# Answering from the text
# ---------------------------------------------------------------------------------------------


def singular(many: str) -> str:
    irregular = {"valleys": "valley", "guilds": "guild"}
    return irregular.get(many, many.removesuffix("s"))


def climb(tables: Tables, row: Row, many: str) -> dict[str, Row]:
    """A row and all that it belongs to, by noun."""
    found = {singular(many): row}
    for above, rows in tables.items():
        noun = singular(above)
        if noun in row and many != above and noun in {singular(name) for name in tables}:
            (owner,) = [other for other in rows if row[noun] in (other.get("id"), other["name"])]
            found |= climb(tables, owner, above)
    return found


def holds(row: Row, condition: str) -> bool:
    column, sign, value = re.fullmatch(r"(\w+) is (above |below |)(\w+)", condition).groups()  # type: ignore[union-attr]
    if sign == "above ":
        return row[column] > int(value)
    return row[column] < int(value) if sign else row[column] == value


def those(tables: Tables, phrase: str) -> list[dict[str, Row]]:
    """The rows that a phrase such as "fields whose crop is oats and that belong to a farm whose …" describes."""
    many, _, rest = phrase.partition(" ")
    found = [climb(tables, row, many) for row in tables[many]]
    for condition in rest.split(" and ") if rest else []:
        own = re.fullmatch(r"whose (.+)", condition)
        if own:
            found = [row for row in found if holds(row[singular(many)], own[1])]
        else:
            noun, what = re.fullmatch(r"that belong to an? (\w+) whose (.+)", condition).groups()  # type: ignore[union-attr]
            found = [row for row in found if holds(row[noun], what)]
    return found


def best(candidates: Sequence[tuple[Any, Any]], extreme: str) -> Any:
    """The name with the largest or smallest value, which must be the only one."""
    value = (max if extreme == "largest" else min)(value for _, value in candidates)
    (name,) = [name for name, other in candidates if other == value]
    return name


FUNCTIONS: Mapping[str, Callable[[Sequence[int]], Any]] = {
    "total": sum,
    "mean": lambda numbers: Fraction(sum(numbers), len(numbers)),
    "largest": max,
    "smallest": min,
}


def answered(question: str) -> str:
    tables, asked = tables_in(question), question.split("\n\n")[-1].split(" What belongs")[0]
    if match := re.fullmatch(
        r"Among the (.+), take the one with the (\w+) (\w+)\. Which (\w+) does it belong to\?", asked
    ):
        phrase, extreme, column, top = match.groups()
        one = singular(phrase.split()[0])
        return best([(row[top]["name"], row[one][column]) for row in those(tables, phrase)], extreme)
    if match := re.fullmatch(r"What is the (\w+) of the (\w+) that the (\w+) (\w+) belongs to\?", asked):
        column, top, one, name = match.groups()
        (row,) = [row for row in those(tables, f"{one}s") if row[one]["name"] == name]
        return str(row[top][column])
    if match := re.fullmatch(
        r"Take the (\w+) with the (\w+) (\w+)\. Among the (\w+) that belong to it, which has the (\w+) (\w+)\?", asked
    ):
        top, first, above, many, second, column = match.groups()
        names = [
            (row["name"], row[above])
            for many_above, rows in tables.items()
            if singular(many_above) == top
            for row in rows
        ]
        taken = best(names, first)
        rows = [row for row in those(tables, many) if row[top]["name"] == taken]
        return best([(row[singular(many)]["name"], row[singular(many)][column]) for row in rows], second)
    if match := re.fullmatch(r"How many (.+) are there\?", asked):
        return str(len(those(tables, match[1])))
    if match := re.fullmatch(
        r"Look at the (.+)\. For which (\w+) is the (?:number|(\w+) (\w+)) of those that belong to it the (\w+)\?",
        asked,
    ):
        phrase, top, function, column, extreme = match.groups()
        groups: dict[str, list[int]] = {}
        for row in those(tables, phrase):
            own = row[singular(phrase.split()[0])]
            groups.setdefault(row[top]["name"], []).append(own[column] if column else 1)
        return best([(name, FUNCTIONS[function or "total"](numbers)) for name, numbers in groups.items()], extreme)
    match = re.fullmatch(r"What is the (\w+) (\w+) of the (.+?)\?( Round it to two decimals\.)?", asked)
    assert match is not None, asked
    function, column, phrase, rounded = match.groups()
    value = FUNCTIONS[function]([row[singular(phrase.split()[0])][column] for row in those(tables, phrase)])
    if not rounded:
        return str(value)
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return str(exact.quantize(Decimal("0.01"), ROUND_HALF_UP))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_plain_python_agrees_with_sqlite(kind: TablesKind, level: int) -> None:
    for question in drawn(kind, level):
        assert answered(question.text) == question.answer, question.text


@pytest.mark.parametrize("kind", KINDS)
def test_overlooking_a_filter_is_wrong(kind: TablesKind) -> None:
    seen = 0
    for question in drawn(kind, 3):
        phrases = re.search(r"(?:Among the|Look at the) (\w+ .+?)(?:, take|\. For)", question.text)
        if phrases is None:
            continue
        many, conditions = phrases[1].split(" ", 1)
        for condition in conditions.split(" and "):
            others = [other for other in conditions.split(" and ") if other != condition]
            careless = question.text.replace(phrases[1], " ".join([many, " and ".join(others)]).strip())
            try:
                assert answered(careless) != question.answer
            except ValueError:  # a tie: no answer at all
                continue
            seen += 1
    assert seen > 20


def test_a_tie_is_no_question() -> None:
    chain = draw_chain(random.Random(0), 2)
    top, lowest = chain.tables
    database = database_of(chain)
    ranked = f'SELECT "name", 1 FROM "{lowest.noun.many}"'
    assert answer_of(Query("", ranked, True), database) is None
    assert answer_of(Query("", f'SELECT "name" FROM "{top.noun.many}" WHERE 0', False), database) is None
    assert answer_of(Query("", "SELECT 0.125, 1, 8", False, decimals=2), database) is None
    assert answer_of(Query("", "SELECT 0.124, 31, 250", False, decimals=2), database) == "0.12"
    assert answer_of(Query("", "SELECT 5", False), database) == "5"
    assert answer_of(Query("", "SELECT 5", False, careless=("SELECT 6", "SELECT 5")), database) is None
    asked = lookup(random.Random(0), chain, 0)
    assert answer_of(asked, database) in {str(cell) for cell in asked.among}
    database.close()


def test_levels_have_more_tables() -> None:
    for kind in KINDS:
        counts = [{len(tables_in(question.text)) for question in drawn(kind, level)} for level in LEVELS]
        assert counts == [{2}, {3}, {5}]


# ---------------------------------------------------------------------------------------------
# The verifier
# ---------------------------------------------------------------------------------------------


def test_near_misses_are_judged_as_a_person_judged_them() -> None:
    assert len(list(judged.rows("tables"))) >= 200
    assert judged.unexpected("tables") == []


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_passes_and_nothing_around_it_does(kind: TablesKind, level: int) -> None:
    for question in drawn(kind, level)[:12]:
        task, answer = task_of(kind, question), question.answer
        other = next((option for option in question.options if option != answer), "7")
        assert passes(f"Answer: {answer}", task)
        assert passes(f"I joined the tables and got {other} first, then {answer}.\n\n**Answer:** {answer}.", task)
        for reply in (
            "",
            question.text,
            f"Answer: {other}",
            f"Answer: {answer} or {other}",
            f"Answer: {answer}, {other}",
            f"Answer: {answer}\n{other}",
            f"Answer: {other}\nAnswer: {answer}",
            f"Answer: not {answer}",
            f"Answer: about {answer}",
            f"Answer: {answer}\u200b",
            f"Answer: {', '.join(question.options) or '1, 2, 3'}",
            f"Answer: {answer} {answer}",
            f"Answer: SELECT {answer}",
            json.dumps({"answer": answer, "score": 1}),
        ):
            assert not passes(reply, task), reply[:200]


@given(st.sampled_from(KINDS), st.text(max_size=200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_verifier(kind: TablesKind, text: str, marked: bool) -> None:
    for question in drawn(kind, 1)[:4]:
        if passes(f"Answer: {text}" if marked else text, task_of(kind, question)):
            assert question.answer in text.replace(",", "")


@pytest.mark.timeout(10)
@pytest.mark.parametrize("part", ["1", "1,", "000", "the ", "a", "-", "1.", " ", "\n", "**", "\\boxed{", "Answer:"])
def test_a_huge_reply_is_judged_at_once(part: str) -> None:
    for question in drawn("aggregation", 1)[:4]:
        huge = part * (100_000 // len(part))
        assert not passes(huge, task_of("aggregation", question))
        assert not passes(f"Answer: {huge}", task_of("aggregation", question))


# ---------------------------------------------------------------------------------------------
# The family
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_chance(kind: TablesKind) -> None:
    """A cell of the right column at random, any number shown where the answer is no cell; printed with -s for the page."""
    rng, passed, count = random.Random(0), 0, 0
    for question in [question for level in LEVELS for question in drawn(kind, level)]:
        options = question.options or re.findall(r"\b[1-9][0-9]*\b", question.text)
        for _ in range(5):
            passed += passes(f"Answer: {rng.choice(options)}", task_of(kind, question))
            count += 1
    print(f"{kind}: {passed}/{count}")
    assert wilson(passed, count).low <= 0.09


def test_splits_share_no_problem_and_are_the_same_again() -> None:
    config = TablesConfig(levels=(1,), num_train=40, num_heldout=10)
    env = TablesEnv(config)
    train, heldout = env.tasks("train"), env.tasks("heldout")
    assert not {task.payload["question"] for task in train} & {task.payload["question"] for task in heldout}
    assert TablesEnv(config.model_copy(update={"num_train": 20})).tasks("train") == train[:20]
