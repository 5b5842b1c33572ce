"""Puzzles: solutions are unique by brute force that shares no code with the solvers; verifiers give nothing away."""

from __future__ import annotations

import ast
import asyncio
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.gym.agents import play
from openk2.gym.final import final_answer
from openk2.gym.puzzles import FAMILY
from openk2.gym.puzzles import zebra as zebra_puzzle
from openk2.gym.puzzles.cryptarithm import assignments
from openk2.gym.puzzles.family import _KINDS, PuzzlesConfig, PuzzlesEnv, verify
from openk2.gym.puzzles.morse import CODE
from openk2.gym.puzzles.twentyfour import evaluate, expression_for
from openk2.gym.puzzles.words import WORDS
from openk2.gym.single_turn import Question, right_answer
from openk2.schema import Task
from openk2.stats import wilson
from tests.gym import judged

KINDS = tuple(_KINDS)
LEVELS = (1, 2, 3)


@cache
def drawn(kind: str, level: int, count: int) -> tuple[Question, ...]:
    rng = random.Random(f"{kind} {level}")
    return tuple(_KINDS[kind].draw(rng, level) for _ in range(count))


def task_of(kind: str, question: Question) -> Task:
    payload = {"question": question.text, "answer": question.answer, "options": list(question.options)}
    return Task("t", "puzzles", kind, "train", payload | question.facts)


def passes(reply: str, task: Task) -> bool:
    return asyncio.run(verify(reply, task)).passed


# ---------------------------------------------------------------------------------------------
# 24-game
# ---------------------------------------------------------------------------------------------


def by_python(expression: str) -> Fraction:
    """The value by Python's own grammar. Raises ValueError for what the game does not allow."""

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Fraction(node.value)
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(node.op, ast.Sub):
                return left - right
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.Div):
                return left / right
        raise ValueError(ast.dump(node))

    return value(ast.parse(expression, mode="eval").body)


def reachable(numbers: tuple[int, ...]) -> set[Fraction]:
    """All values of all expressions that use each number once: every split in two, every operator."""
    if len(numbers) == 1:
        return {Fraction(numbers[0])}
    values: set[Fraction] = set()
    places = range(len(numbers))
    for size in range(1, len(numbers)):
        for chosen in itertools.combinations(places, size):
            left = reachable(tuple(numbers[place] for place in chosen))
            right = reachable(tuple(numbers[place] for place in places if place not in chosen))
            for a, b in itertools.product(left, right):
                values |= {a + b, a - b, a * b} | ({a / b} if b else set())
    return values


def test_the_search_finds_an_expression_where_there_is_one() -> None:
    rng = random.Random(0)
    solvable: Counter[bool] = Counter()
    for _ in range(40):
        numbers = tuple(rng.randint(1, 13) for _ in range(rng.choice((3, 4))))
        expression = expression_for(numbers, 24)
        assert (expression is not None) == (24 in reachable(numbers)), numbers
        solvable[expression is not None] += 1
        if expression is not None:
            assert by_python(expression) == 24
            assert sorted(map(int, re.findall(r"\d+", expression))) == sorted(numbers)
    assert min(solvable.values()) >= 5, "both cases were seen"


@pytest.mark.parametrize("level", LEVELS)
def test_a_24_game_is_solved_by_its_gold_as_python_reckons(level: int) -> None:
    for question in drawn("twentyfour", level, 12):
        assert by_python(question.answer) == question.facts["target"]
        assert sorted(map(int, re.findall(r"\d+", question.answer))) == sorted(question.facts["numbers"])


operations = st.recursive(
    st.integers(0, 30).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner, st.booleans()).map(
        lambda parts: f"({parts[0]} {parts[1]} {parts[2]})" if parts[3] else f"{parts[0]}{parts[1]}{parts[2]}"
    ),
    max_leaves=8,
)


@given(operations)
@settings(max_examples=150, deadline=None)
def test_an_expression_has_the_value_that_python_gives(expression: str) -> None:
    zeros = re.search(r"(?<!\d)0", expression)
    try:
        expected = None if zeros else by_python(expression)
    except ZeroDivisionError:
        expected = None
    found = evaluate(expression)
    assert (None if found is None else found[0]) == expected


@given(st.text("0123456789+-*/() ", max_size=12))
@settings(max_examples=200, deadline=None)
def test_what_is_read_as_an_expression_is_one(text: str) -> None:
    found = evaluate(text)
    if found is not None:
        assert found[0] == by_python(text.strip())


# ---------------------------------------------------------------------------------------------
# Sudoku, row by row
# ---------------------------------------------------------------------------------------------


def sudoku_solutions(puzzle: list[int], box: list[int]) -> Iterator[list[tuple[int, ...]]]:
    size = box[0] * box[1]
    rows = [puzzle[start : start + size] for start in range(0, size**2, size)]
    box_of = [[(row // box[0], column // box[1]) for column in range(size)] for row in range(size)]

    def go_on(done: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        if len(done) == size:
            yield done
            return
        given_row, place = rows[len(done)], len(done)
        taken = [
            {row[column] for row in done}
            | {row[c] for r, row in enumerate(done) for c in range(size) if box_of[r][c] == box_of[place][column]}
            for column in range(size)
        ]
        free = [
            [digit] if digit else [d for d in range(1, size + 1) if d not in given_row and d not in taken[column]]
            for column, digit in enumerate(given_row)
        ]
        yield from (
            solution
            for row in combinations_without_repeats(free)
            if all(digit not in taken[column] for column, digit in enumerate(row))
            for solution in go_on([*done, row])
        )

    return go_on([])


def combinations_without_repeats(choices: list[list[int]]) -> Iterator[tuple[int, ...]]:
    if not choices:
        yield ()
        return
    for rest in combinations_without_repeats(choices[:-1]):
        yield from ((*rest, digit) for digit in choices[-1] if digit not in rest)


@pytest.mark.parametrize(("level", "count"), [(1, 40), (2, 20), pytest.param(3, 4, marks=pytest.mark.slow)])
def test_a_sudoku_has_one_solution(level: int, count: int) -> None:
    for question in drawn("sudoku", level, count):
        found = list(sudoku_solutions(question.facts["puzzle"], question.facts["box"]))
        assert ["\n".join(" ".join(map(str, row)) for row in grid) for grid in found] == [question.answer]


# ---------------------------------------------------------------------------------------------
# Cryptarithms, over all digits for all letters
# ---------------------------------------------------------------------------------------------


def sums(addends: list[str], total: str) -> list[dict[str, int]]:
    letters = sorted(set("".join([*addends, total])))
    found = []
    for digits in itertools.permutations(range(10), len(letters)):
        value = dict(zip(letters, digits, strict=True))
        if any(value[word[0]] == 0 for word in (*addends, total)):
            continue
        numbers = [int("".join(str(value[letter]) for letter in word)) for word in (*addends, total)]
        if sum(numbers[:-1]) == numbers[-1]:
            found.append(value)
    return found


def test_a_cryptarithm_has_one_solution() -> None:
    for question in drawn("cryptarithm", 1, 4):
        (solution,) = sums(question.facts["addends"], question.facts["total"])
        assert ", ".join(f"{letter}={digit}" for letter, digit in solution.items()) == question.answer


@given(
    st.lists(st.text("ABCDE", min_size=1, max_size=3), min_size=2, max_size=3), st.text("ABCDE", min_size=3, max_size=3)
)
@settings(max_examples=8, deadline=None)
def test_the_solver_of_cryptarithms_counts_as_brute_force_does(addends: list[str], total: str) -> None:
    def order(found: list[dict[str, int]]) -> list[list[tuple[str, int]]]:
        return sorted(sorted(value.items()) for value in found)

    assert order(assignments(addends, total, most=10**6)) == order(sums(addends, total))


def test_send_more_money() -> None:
    found = assignments(["SEND", "MORE"], "MONEY")
    assert found == [{"S": 9, "E": 5, "N": 6, "D": 7, "M": 1, "O": 0, "R": 8, "Y": 2}]


# ---------------------------------------------------------------------------------------------
# Morse, read from the text of the question
# ---------------------------------------------------------------------------------------------


def test_the_code_is_the_international_one() -> None:
    assert [CODE[letter] for letter in "SOSPARIS"] == ["...", "---", "...", ".--.", ".-", ".-.", "..", "..."]
    assert len(set(CODE.values())) == 26
    lengths = Counter(map(len, CODE.values()))
    assert lengths == {1: 2, 2: 4, 3: 8, 4: 12}  # four codes of four signs are no English letters


def decoded(question: str, code: str) -> str:
    """Undo what the question says was done, last change first."""
    if "dots become dashes" in question:
        code = "".join({".": "-", "-": "."}.get(sign, sign) for sign in code)
    letter = {morse: plain for plain, morse in CODE.items()}
    words = ["".join(letter[morse] for morse in word.split()) for word in code.split("/")]
    if "written backwards" in question:
        words = ["".join(reversed(word)) for word in words]
    shift = re.search(r"moves (\d+) places? forward", question)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return " ".join(
        "".join(alphabet[alphabet.index(plain) - (int(shift[1]) if shift else 0)] for plain in word) for word in words
    )


@pytest.mark.parametrize("level", LEVELS)
def test_morse_reads_back(level: int) -> None:
    directions: Counter[bool] = Counter()
    for question in drawn("morse", level, 60):
        directions[question.facts["encodes"]] += 1
        if question.facts["encodes"]:
            message = re.search("Write ([A-Z ]+) in Morse code", question.text)
            assert message is not None
            assert decoded(question.text, question.answer) == message[1]
        else:
            code = re.search("was written as ([-./ ]+)", question.text)
            assert code is not None
            assert decoded(question.text, code[1]) == question.answer
    assert min(directions.values()) > 10


# ---------------------------------------------------------------------------------------------
# Riddles, from the text alone
# ---------------------------------------------------------------------------------------------

PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
STEPS: Mapping[str, Callable[[list[str]], list[str]]] = {
    "i lose my first letter": lambda word: word[1:],
    "i lose my last letter": lambda word: word[:-1],
    "i turn around, so that my last letter stands first": lambda word: list(reversed(word)),
    "my first letter moves to my end": lambda word: [*word[1:], word[0]],
    "my last letter moves to my front": lambda word: [word[-1], *word[:-1]],
    "my first and my last letter change places": lambda word: [word[-1], *word[1:-1], word[0]],
    "i double my last letter": lambda word: [*word, word[-1]],
    "i say my second letter twice": lambda word: [word[0], word[1], word[1], *word[2:]],
    "each of my vowels becomes the next of a, e, i, o, u, and u becomes a": lambda word: [
        {"a": "e", "e": "i", "i": "o", "o": "u", "u": "a"}.get(letter, letter) for letter in word
    ],
    "all my vowels leave me for my end, in their order": lambda word: [
        *[letter for letter in word if letter not in "aeiou"],
        *[letter for letter in word if letter in "aeiou"],
    ],
    "each of my letters becomes the one after it in the alphabet, and z becomes a": lambda word: [
        "abcdefghijklmnopqrstuvwxyza"["abcdefghijklmnopqrstuvwxyz".index(letter) + 1] for letter in word
    ],
}


def riddle_answers(text: str) -> list[str]:
    begin = re.search(r"I begin as ([A-Z]+)\. (.+)\. What am I now", text)
    if begin is not None:
        word = list(begin[1].lower())
        for step in begin[2].split(". Then "):
            word = STEPS[step.lower()](word)
        return ["".join(word)]
    listed = re.search(r"I am one of: (.+)\. Which word", text)
    if listed is not None:
        clues = re.findall(r"My (\w+) is in ([A-Z]+) but not in ([A-Z]+)\.", text)
        assert clues
        return [
            word
            for word in listed[1].split(", ")
            if all(word[PLACES.index(place)].upper() in set(one) - set(other) for place, one, other in clues)
        ]
    rows = dict(re.findall(r"^(\w+): (.+)\.$", text, re.MULTILINE))
    said = text.split("\n\n")[1].removesuffix(" What am I?")
    answers = []
    for name, row in rows.items():
        traits = {word.strip(" .") for word in re.split(r", (?:eats |lives in |voice a )?", row)}
        holds = []
        for clue in re.findall(r"[^.]+", said):
            stem = r" ?(I do not have|I am not|I never eat|I do not live in|You never hear me|I have|I am|I eat|I live in|You hear me) (.+)"
            match = re.fullmatch(stem, clue)
            assert match is not None, clue
            holds.append((match[2], "not" in match[1] or "never" in match[1]))
        if all((value in traits) != negated for value, negated in holds):
            answers.append(name)
    return answers


@pytest.mark.parametrize("level", LEVELS)
def test_a_riddle_has_one_answer(level: int) -> None:
    forms: Counter[bool] = Counter()
    for question in drawn("riddle", level, 90):
        assert riddle_answers(question.text) == [question.answer]
        assert not question.options or len(question.options) >= 12
        forms[bool(question.options)] += 1
    assert min(forms.values()) > 10


def test_words_are_none_twice_and_no_anagrams() -> None:
    assert len({"".join(sorted(word)) for word in WORDS}) == len(WORDS) > 250


# ---------------------------------------------------------------------------------------------
# Zebra puzzles, over all permutations
# ---------------------------------------------------------------------------------------------

PHRASE = re.compile(
    r"(?:the one in the (\w+) house|the one with the (\w+)|the one who drinks (\w+)|the owner of the (\w+))"
)
SENTENCES: tuple[tuple[str, Callable[[int, int], bool]], ...] = (
    ("(.+) lives directly to the left of (.+)", lambda p, q: q - p == 1),
    ("(.+) lives somewhere to the left of (.+)", lambda p, q: p < q),
    ("(.+) does not live next to (.+)", lambda p, q: p - q not in (-1, 1)),
    ("(.+) lives next to (.+)", lambda p, q: p - q in (-1, 1)),
    ("(.+) lives in house (.+)", lambda p, q: p == q),
    ("(.+) is not (.+)", lambda p, q: p != q),
    ("(.+) is (.+)", lambda p, q: p == q),
)


def value_of(phrase: str) -> str:
    match = PHRASE.fullmatch(phrase[0].lower() + phrase[1:])
    return next(filter(None, match.groups())) if match else phrase


def zebra_solutions(text: str, left_out: int | None = None) -> list[str]:
    known = re.search(r"in common \((.+)\)\.\n", text)
    assert known is not None
    groups = [group.split(": ")[1].split(", ") for group in known[1].split("; ")]
    clues: list[tuple[str, str, Callable[[int, int], bool]]] = []
    for number, line in enumerate(re.findall(r"^- (.+)\.$", text, re.MULTILINE)):
        for form, holds in SENTENCES:
            match = re.fullmatch(form, line)
            if match is not None:
                if number != left_out:
                    clues.append((value_of(match[1]), value_of(match[2]), holds))
                break
        else:
            raise AssertionError(line)
    size = len(groups[0])
    found = []

    def go_on(placed: dict[str, int], rows: list[tuple[str, ...]]) -> None:
        if len(rows) == len(groups):
            found.append("\n".join(f"{h}: {', '.join(row)}" for h, row in enumerate(zip(*rows, strict=True), start=1)))
            return
        for row in itertools.permutations(groups[len(rows)]):
            now = placed | {value: house for house, value in enumerate(row, start=1)}
            if all(holds(now[a], now[b]) for a, b, holds in clues if a in now and b in now):
                go_on(now, [*rows, row])

    go_on({str(house): house for house in range(1, size + 1)}, [])
    return found


@pytest.mark.parametrize(("level", "count"), [(1, 40), (2, 15), pytest.param(3, 10, marks=pytest.mark.slow)])
def test_a_zebra_puzzle_has_one_solution(level: int, count: int) -> None:
    for question in drawn("zebra", level, count):
        assert zebra_solutions(question.text) == [question.answer]


def test_no_clue_of_a_zebra_puzzle_could_be_left_out() -> None:
    for question in drawn("zebra", 1, 8):
        for left_out in range(question.text.count("\n- ")):
            assert len(zebra_solutions(question.text, left_out)) > 1


def test_names_are_never_things_in_a_zebra_puzzle() -> None:
    for question in drawn("zebra", 3, 30):
        values = [value.lower() for group in question.facts["values"] for value in group]
        assert len(set(values)) == len(values)
        assert set(question.facts["values"][0]).isdisjoint(zebra_puzzle._WORDS)


# ---------------------------------------------------------------------------------------------
# The verifiers
# ---------------------------------------------------------------------------------------------


def test_near_misses_are_judged_as_a_person_judged_them() -> None:
    assert len(list(judged.rows("puzzles"))) >= 200
    assert judged.unexpected("puzzles") == []


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_passes_and_nothing_around_it_does(kind: str, level: int) -> None:
    question, other = drawn(kind, level, 2)
    task, answer = task_of(kind, question), question.answer
    assert passes(f"Answer: {answer}", task)
    assert passes(f"First I thought of something else.\n\n**Answer:**\n{answer}", task)
    for reply in (
        "",
        question.text,
        f"Answer: {other.answer}",
        f"Answer: {answer} or {other.answer}",
        f"Answer: {answer}\n{other.answer}",
        f"Answer: {answer}\n\nAnswer: {other.answer}",
        f"Answer: {answer}, I think",
        f"Answer: not {answer}",
        f"{answer}\n\nThis is right.",
        f"Answer: {answer}\u200b",
        f"Answer: \u202e{answer}",
        f"Answer: {answer}\x00",
        f"Answer: {answer * 2}",
        f"{other.answer}\n{answer}",
        "\\boxed{" * 2000 + answer + "}" * 2000,
        json.dumps({"score": 1, "correct": True, "answer": answer}),
    ):
        assert not passes(reply, task), reply[:300]


@given(st.sampled_from(KINDS), st.text(max_size=200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_a_verifier_or_earns(kind: str, text: str, marked: bool) -> None:
    assert not passes(f"Answer: {text}" if marked else text, task_of(kind, drawn(kind, 2, 2)[0]))


SIGNS = st.sampled_from(
    [*"0123456789+-*/()=.,:;|[]{}\n\\$`\"' ABKTUWabc", "Answer:", "house ", "row 1:", "**", "```\n", "-> "]
)


@given(st.sampled_from(KINDS), st.lists(SIGNS, max_size=60).map("".join))
@settings(max_examples=200, deadline=None)
def test_no_signs_break_a_verifier(kind: str, text: str) -> None:
    passes(text, task_of(kind, drawn(kind, 1, 2)[0]))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "part",
    ["(", "1", " ", "\n", "- ", "`", "```\n", "A=1,", "Answer", "\\boxed{", "**", "r 1:", ". ", "x", "1: ", "\n \t"],
)
def test_a_huge_reply_is_judged_at_once(kind: str, part: str) -> None:
    task = task_of(kind, drawn(kind, 2, 2)[0])
    huge = part * (100_000 // len(part))
    assert not passes(huge, task)
    assert not passes(f"Answer: {huge}", task)
    assert not passes(f"Answer:\n```\n{huge}\n```", task)


def test_what_a_final_answer_is() -> None:
    assert final_answer("12") == final_answer("so 12.\nAnswer: 12") == final_answer("**Answer:** **12**.") == "12"
    assert final_answer("The answer is: $\\boxed{12}$.") == "12"
    assert final_answer("**Final answer: 12**") == "12"
    assert final_answer("Answer: 12\nAnswer: 12") is None
    assert final_answer("Perhaps the answer is 10. No.\nAnswer: 12") == "12"
    assert final_answer("Answer: 12. Or the answer is 10") == "12. Or the answer is 10"
    assert final_answer("The answer is 10. The answer is 12") is None
    assert final_answer("Answer:") is None
    assert final_answer("Answer: 1\u200b2") is None
    assert final_answer("Answer: -. .", full_stop=False) == "-. ."


# ---------------------------------------------------------------------------------------------
# The family
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_chance(kind: str) -> None:
    """Share of puzzles that a random answer solves; printed with -s for the page."""
    tasks = [task_of(kind, question) for level in LEVELS for question in drawn(kind, level, 4 if level == 3 else 12)]
    rng, passed, count = random.Random(0), 0, 0
    for task in tasks:
        for _ in range(20):
            payload = {name: value for name, value in task.payload.items() if name != "answer"}
            passed += passes(f"Answer: {_KINDS[kind].guess(payload, rng)}", task)
            count += 1
    print(f"{kind}: {passed}/{count}")
    assert wilson(passed, count).low <= (1 / 12 if kind == "riddle" else 0.03)


def test_splits_share_no_problem_and_are_the_same_again() -> None:
    config = PuzzlesConfig(kinds=("twentyfour", "morse", "riddle"), levels=(1,), num_train=120, num_heldout=30)
    env = PuzzlesEnv(config)
    train, heldout = env.tasks("train"), env.tasks("heldout")

    def problem(task: Task) -> object:
        return sorted(task.payload["numbers"]) if task.kind == "twentyfour" else task.payload["question"]

    assert not {str(problem(task)) for task in train} & {str(problem(task)) for task in heldout}
    assert PuzzlesEnv(config.model_copy(update={"num_train": 60})).tasks("train") == train[:60]
    assert Counter(task.kind for task in train) == dict.fromkeys(config.kinds, 40)


def test_a_sentence_around_a_morse_answer_is_no_trap() -> None:
    """The general gold agent ends in a full stop; in Morse that is a letter."""
    question = next(question for question in drawn("morse", 1, 60) if question.facts["encodes"])
    trace = asyncio.run(play(FAMILY.make(), task_of("morse", question), right_answer))
    assert trace.score is not None
    assert trace.score.total == 0.0
