"""Mathematics and the sciences: what is read, what is judged equal, what is refused, and what no reply can do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sympy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openk2.gym.question import MOST_CHARACTERS
from openk2.gym.stem import judges, units
from openk2.gym.stem.config import StemConfig
from openk2.gym.stem.expression import parse, tree
from openk2.gym.stem.family import FAMILY, StemEnv
from openk2.gym.stem.grade import verify
from openk2.gym.stem.judges import Judge
from openk2.gym.stem.literal import literal
from openk2.gym.stem.tidy import tidy
from openk2.gym.stem.topics import KINDS, TOPIC_OF, TOPICS
from openk2.schema import Message, Score, Task, Trace

LOOP = asyncio.Runner()
FEW = settings(max_examples=30)
ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "near_misses" / "stem.jsonl").read_text(encoding="utf-8").splitlines()
]


def task(answer: str, question: str = "What is it?", **facts: Any) -> Task:
    plain = {"form": "value", "unit": "", "names": [], "tolerance": None, "percent": False, "options": []}
    return Task("stem-t", "stem", "t", "train", plain | {"question": question, "answer": answer} | facts)


def judged(reply: str, problem: Task) -> Score:
    return LOOP.run(verify(reply, problem))


def score(reply: str, answer: str, question: str = "What is it?", **facts: Any) -> Score:
    return judged(reply, task(answer, question, **facts))


# ---------------------------------------------------------------------------------------------
# The table judged by hand
# ---------------------------------------------------------------------------------------------


def test_the_verifier_agrees_with_the_table_judged_by_hand() -> None:
    wrong = Counter[str]()
    for row in ROWS:
        passed = judged(row["reply"], task(**row["task"])).passed
        if passed != row["right"] and not row.get("known"):
            wrong[
                f"false {'accept' if passed else 'reject'}: {row['reply']!r} for {row['task']['answer']!r}: {row['why']}"
            ] += 1
    assert len(ROWS) >= 200
    assert 0.35 < sum(row["right"] for row in ROWS) / len(ROWS) < 0.65
    assert wrong == Counter()


# ---------------------------------------------------------------------------------------------
# Numbers in all their forms
# ---------------------------------------------------------------------------------------------

rationals = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=10**4)


def forms_of(number: Fraction) -> list[str]:
    """Ways to write a number down that leave nothing to compute."""
    sign, size = "-" if number < 0 else "", abs(number)
    top, bottom = size.numerator, size.denominator
    if bottom == 1:
        forms = [
            f"{sign}{top}",
            f"{sign}{top:,}",
            f"{sign}{top}.0",
            rf"{sign}{top:,}".replace(",", "{,}"),
            f"({sign}{top})",
        ]
    else:
        forms = [f"{sign}{top}/{bottom}", rf"{sign}\frac{{{top}}}{{{bottom}}}", rf"\dfrac{{{sign}{top}}}{{{bottom}}}"]
        if top > bottom:
            forms += [
                f"{sign}{top // bottom} {top % bottom}/{bottom}",
                rf"{sign}{top // bottom}\frac{{{top % bottom}}}{{{bottom}}}",
            ]
    while bottom % 2 == 0 or bottom % 5 == 0:
        bottom //= 2 if bottom % 2 == 0 else 5
    if bottom == 1 and size.denominator != 1:
        places = 20
        forms.append(f"{sign}{top // size.denominator}.{int(size * 10**places) % 10**places:0{places}d}")
    return forms


@FEW
@given(rationals)
def test_every_form_of_a_number_is_that_number(number: Fraction) -> None:
    for form in forms_of(number):
        assert literal(tidy(form).strip("()")) == number, form
        assert score(rf"So we get $\boxed{{{form}}}$.", str(number)).passed, form


@FEW
@given(rationals, rationals.filter(bool))
def test_another_number_is_refused_in_every_form(number: Fraction, off: Fraction) -> None:
    for form in forms_of(number + off):
        assert score(rf"\boxed{{{form}}}", str(number)) == Score(0.0, {"answered": 1.0, "correct": 0.0})


@FEW
@given(rationals, rationals.filter(bool))
def test_two_candidates_are_no_answer(number: Fraction, off: Fraction) -> None:
    for joined in ("{} or {}", "{}, {}", "{} and {}", r"\boxed{{{}}} \boxed{{{}}}", "Answer: {}\nAnswer: {}", "{} {}"):
        assert not score(joined.format(number, number + off), str(number)).passed
        assert not score(joined.format(number + off, number), str(number)).passed


@FEW
@given(st.integers(-999, 999), st.integers(2, 999), st.integers(2, 99))
def test_a_fraction_that_can_be_cancelled_is_left_to_compute(top: int, bottom: int, factor: int) -> None:
    number = Fraction(top, bottom)
    assert not score(rf"\boxed{{{number.numerator * factor}/{number.denominator * factor}}}", str(number)).passed


@given(st.integers(2, 40), st.sampled_from((2, 3, 5, 6, 7, 10, 11)))
@settings(FEW, max_examples=15)
def test_a_surd_is_the_same_outside_and_under_the_root(factor: int, radicand: int) -> None:
    answer = rf"{factor}\sqrt{{{radicand}}}"
    assert score(rf"\boxed{{\sqrt{{{factor**2 * radicand}}}}}", answer).passed
    assert not score(rf"\boxed{{\sqrt{{{factor**2 * radicand + 1}}}}}", answer).passed
    assert not score(rf"\boxed{{{factor - 1}\sqrt{{{radicand}}} + \sqrt{{{radicand}}}}}", answer).passed


@FEW
@given(st.text(max_size=300))
@example("\\boxed{" * 60)
@example("{" * 200 + "}" * 200)
@example("\\frac" * 50)
@example("answer is answer: #### \\boxed{}")
@example("\ud800")
def test_no_text_makes_the_verifier_raise(text: str) -> None:
    for wanted in (
        task("12"),
        task("3\\sqrt{2}"),
        task("12", unit="m", tolerance="1/2", names=["x"]),
        task("(1, 2)", form="tuple", names=["x", "y"]),
        task("\\{1, 2\\}", form="set", names=["x"]),
        task("[1, 2)", form="interval", names=["x"]),
        task("5", "How many per cent of $ 3?", unit=None),
    ):
        for reply in (text, f"\\boxed{{{text}}}", f"Answer: {text}"):
            assert judged(reply, wanted).total in (0, 1)


WORDS = (
    "\\frac",
    "\\sqrt",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "1",
    "2",
    "x",
    "^",
    "+",
    "-",
    "*",
    "/",
    "=",
    ",",
    "±",
    "\\pi",
    " or ",
    "e",
    "\\ln",
    "%",
    "<",
)


@FEW
@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join))
def test_no_formula_makes_the_verifier_raise(formula: str) -> None:
    for wanted in (
        task("2x + 1"),
        task("\\{1, 2\\}", form="set", names=["x"]),
        task("(-\\infty, 2)", form="interval", names=["x"]),
    ):
        assert judged(f"\\boxed{{{formula}}}", wanted).total in (0, 1)


LONG = MOST_CHARACTERS - 10


@pytest.mark.parametrize(
    "reply",
    [
        "answer" + " " * LONG,
        "answer is " * (LONG // 10),
        "\\boxed{1}" * (LONG // 9),
        "\\boxed{" * (LONG // 7),
        "." * LONG,
        "$" * LONG,
        "(" * LONG,
        "9" * LONG,
        "\\boxed{" + "9" * LONG,
        "\\boxed{12}" + "." * LONG,
        "is " * (LONG // 3),
        "Answer: " + "9^" * (LONG // 2),
        "not " * (LONG // 4) + "\\boxed{12}",
        "#### " * (LONG // 5),
        "\n" * LONG,
    ],
    ids=lambda reply: reply[:12].strip() or repr(reply[:1]),
)
def test_a_long_reply_is_refused_fast(reply: str) -> None:
    began = time.process_time()
    assert not score(reply, "12").passed
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "bomb",
    [
        "9^{9^{9^{9}}}",
        "9**9**9**9",
        "10^{10^{10}}",
        "(" * 150 + "12" + ")" * 150,
        "\\sqrt{" * 60 + "12" + "}" * 60,
        "\\frac{1}{" * 40 + "2" + "}" * 40,
        "\\int_0^1 \\int_0^1 \\int_0^1 x^x dx",
        "\\sum_{n=1}^{10^9} n",
        "\\prod_{n=1}^{10^9} n",
        "1000000000!",
        "\\binom{10^9}{10^8}",
        "12^{1^{1^{1}}}",
        "e^{e^{e^{e^{e}}}}",
        "__import__('os').system('true')",
        "\\lim_{x\\to0}\\frac{\\sin x}{x}",
        "\\begin{pmatrix}12\\end{pmatrix}",
    ],
)
@pytest.mark.parametrize("answer", ["12", "3\\sqrt{2}", "x^2 + 1"])
def test_a_bomb_never_reaches_sympy(bomb: str, answer: str) -> None:
    began = time.perf_counter()
    assert score(f"\\boxed{{{bomb}}}", answer) == Score(0.0, {"answered": 0.0, "correct": 0.0})
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("unit", units.SPELLINGS)
def test_only_the_unit_asked_for_may_follow(unit: str) -> None:
    for other, spellings in units.SPELLINGS.items():
        for spelling in spellings:
            right = other == unit
            assert score(f"\\boxed{{12 {spelling}}}", "12", unit=unit).passed == right, spelling
            assert score(f"\\boxed{{5\\sqrt{{2}}}} {spelling}", "5\\sqrt{2}", unit=unit).passed == right, spelling


# ---------------------------------------------------------------------------------------------
# The judge's processes
# ---------------------------------------------------------------------------------------------

TOWER = [
    "power",
    ["number", "3"],
    ["number", "1000000000"],
]  # a loop inside C, which no signal handler of Python interrupts


@pytest.fixture(scope="module")
def judge() -> Any:
    judge = Judge()
    yield judge
    judge.close()


def of(text: str) -> list[Any]:
    node = parse(tidy(text))
    assert node is not None
    return tree(node)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("2x + 3", "3 + 2x", True),
        ("\\ln 8", "3\\ln 2", True),
        ("\\log 8", "3\\log 2", True),
        ("\\log 8", "\\ln 8", False),
        ("\\sqrt{5 + 2\\sqrt{6}}", "\\sqrt{2} + \\sqrt{3}", True),
        ("\\sin(x)^2", "1 - \\cos(x)^2", True),
        ("e^{2x}", "(e^x)^2", True),
        ("\\sqrt[3]{16}", "2\\sqrt[3]{2}", True),
        ("\\frac{\\pi}{4}", "0.785398163397448", False),
        # Equal to 15 digits, which is where math-verify stops by itself.
        (
            "\\sqrt[9]{99999999999999999999999999999999999999}+\\pi",
            "\\sqrt[9]{99999999999999999999999999999999999998}+\\pi",
            False,
        ),
    ],
)
def test_math_verify_judges_expressions(judge: Judge, one: str, other: str, equal: bool) -> None:
    assert judge.equal(of(one), of(other), limit_s=20) is equal


def test_a_comparison_that_takes_too_long_ends_its_process_and_the_next_one_works(judge: Judge) -> None:
    judge.equal(of("x"), of("x"), limit_s=20)
    process = judge._process
    assert process is not None
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        judge.equal(TOWER, of("x"), limit_s=0.5)
    assert time.monotonic() - began < 2
    assert process.poll() is not None
    assert judge.equal(of("x + x"), of("2x"), limit_s=20)


def test_a_timed_out_grading_earns_nothing_and_says_so() -> None:
    answer = (
        "\\frac{(x+y)^{90}}{(x-y)^{80}+x}"  # simplifying the difference to another one of its kind takes sympy minutes
    )
    reply = "\\boxed{\\frac{(x+y)^{90}}{(x-y)^{80}+x+0.0000000001}}"
    assert score(reply, answer) == Score(0.0, {"answered": 1.0, "correct": 0.0, "timed_out": 1.0})
    assert score(f"\\boxed{{{answer}}}", answer).passed


def test_a_process_that_dies_is_replaced(judge: Judge) -> None:
    judge.equal(of("x"), of("x"), limit_s=20)
    assert judge._process is not None
    judge._process.kill()
    judge._process.wait()
    assert judge.equal(of("x"), of("x"), limit_s=20)


def test_processes_end_with_a_parent_that_was_killed_even_in_the_middle_of_a_job() -> None:
    program = (
        "from openk2.gym.stem.judges import Judge\n"
        "judge = Judge(); judge.equal(['symbol', 'x'], ['symbol', 'x'], 30); print(judge._process.pid, flush=True)\n"
        f"judge.equal({TOWER!r}, ['symbol', 'x'], 1.0)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Is it running still? A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_judging_works_from_threads_and_many_event_loops_at_once() -> None:
    found: list[bool] = []

    def one(number: int) -> None:
        found.append(asyncio.run(verify(f"\\boxed{{\\sqrt{{{2 * number**2}}}}}", task(f"{number}\\sqrt{{2}}"))).passed)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 8


def test_missing_math_verify_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs math-verify: pip install 'openk2\[math\]'"):
        judges.Judges(1)


# ---------------------------------------------------------------------------------------------
# The generated problems
# ---------------------------------------------------------------------------------------------


def questions(kind: str, level: int, count: int = 12) -> list[Task]:
    return list(StemEnv(StemConfig(kinds=(kind,), levels=(level,), num_train=count)).tasks("train"))


def text(problem: Task) -> str:
    return str(problem.payload["question"])


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]


def sympified(latex: str) -> Any:
    plain = re.sub(r"\^\{(\d+)\}", r"^\1", latex).replace("^", "**")
    return sympy.sympify(re.sub(r"(?<=[\dx)])(?=[x(])", "*", plain))


def test_calculus_is_what_sympy_says() -> None:
    x = sympy.Symbol("x")
    for problem in questions("derivative", 1):
        function = text(problem).removeprefix("Differentiate ").partition(" with")[0]
        assert sympy.diff(sympified(function), x) == sympified(problem.payload["answer"])
    for problem in questions("derivative", 3):
        function = text(problem).partition("f(x) = ")[2].partition(" is zero")[0]
        assert {int(root) for root in sympy.solve(sympy.diff(sympified(function), x))} == set(
            numbers(problem.payload["answer"])
        )
    for level in (1, 2, 3):
        for problem in questions("integral", level, 4):
            low, high, inside = re.findall(r"_\{(-?\d+)\}\^\{(-?\d+)\} \((.*)\) dx", text(problem))[0]
            assert sympy.integrate(sympified(inside), (x, int(low), int(high))) == sympy.Rational(
                problem.payload["answer"]
            )


def test_algebra_is_what_sympy_says() -> None:
    x = sympy.Symbol("x")
    for level in (1, 2, 3):
        for problem in questions("expand", level):
            shown = text(problem).removeprefix("Expand ").partition(" and")[0]
            assert sympy.expand(sympified(shown)) == sympified(problem.payload["answer"])
        for problem in questions("factor", level):
            shown = text(problem).removeprefix("Factor ").partition(" completely")[0]
            assert sympy.expand(sympified(problem.payload["answer"])) == sympy.expand(sympified(shown))
            assert len(sympy.factor_list(sympified(shown))[1]) == 2
        for problem in questions("linear_equation", level):
            left, right = text(problem).removeprefix("Solve for x: ").partition(".")[0].split(" = ")
            assert sympy.solve(sympified(left) - sympified(right), x) == [sympy.Rational(problem.payload["answer"])]
        for problem in questions("quadratic_equation", level, 5):
            shown = text(problem).partition("x with ")[2].partition(" = 0")[0]
            answer = (
                problem.payload["answer"].strip("\\{}" if level < 3 else "").removeprefix("\\{").removesuffix("\\}")
            )
            roots = {
                sympified(re.sub(r"(\d*)\\sqrt\{(\d+)\}", lambda m: f"{m[1] or 1}*sqrt({m[2]})", root))
                for root in answer.split(", ")
            }
            assert all(sympy.simplify(sympified(shown).subs(x, root)) == 0 for root in roots)
            assert len(roots) == 2
        for problem in questions("fractions", level):
            assert sympy.Rational(problem.payload["answer"]) == sympy.sympify(
                text(problem).partition("Compute ")[2].partition(". Give")[0], rational=True
            )


def test_inequalities_hold_inside_and_nowhere_else() -> None:
    for level in (1, 2, 3):
        for problem in questions("inequality", level, 15):
            condition = text(problem).removeprefix("Solve ").partition(" for real")[0]
            check = re.sub(r"(?<=\d)x", "*x", condition.replace("^", "**"))
            for x in range(-80, 81):
                inside = any(
                    (float(low.replace("\\infty", "inf")) < x or (opening == "[" and x == float(low)))
                    and (x < float(high.replace("\\infty", "inf")) or (closing == "]" and x == float(high)))
                    for opening, low, high, closing in re.findall(
                        r"([\[(])([^,]+), ([^\])]+)([\])])", problem.payload["answer"]
                    )
                )
                assert eval(check, {"x": x}) == inside, (condition, problem.payload["answer"], x)  # noqa: S307 - our own text


def test_number_theory_is_what_sympy_says() -> None:
    for level, rule in (
        (1, lambda n: sum(sympy.primefactors(n))),
        (2, lambda n: sum(prime * power for prime, power in sympy.factorint(n).items())),
        (3, sympy.divisor_sigma),
    ):
        for problem in questions("primes", level):
            assert int(problem.payload["answer"]) == rule(numbers(text(problem))[0])
    for level, rule in ((1, sympy.igcd), (2, sympy.ilcm), (3, sympy.igcd)):
        for problem in questions("common_divisor", level):
            assert int(problem.payload["answer"]) == rule(*numbers(text(problem)))
    for problem in questions("remainder", 2):
        base, exponent, modulus = numbers(text(problem))
        assert int(problem.payload["answer"]) == base**exponent % modulus
    for problem in questions("remainder", 3):
        most, one, modulus, other, second = numbers(text(problem))
        assert [n for n in range(1, most) if n % modulus == one and n % second == other] == [
            int(problem.payload["answer"])
        ]


def test_systems_hold_and_have_one_solution() -> None:
    for level, names in ((1, "xy"), (2, "xy"), (3, "xyz")):
        letters = sympy.symbols(" ".join(names))
        for problem in questions("linear_system", level, 5):
            shown = text(problem).removeprefix("Solve the system ").partition(". Give")[0]
            rows = [re.sub(r"(?<=\d)(?=[xyz])", "*", row).split(" = ") for row in shown.split("; ")]
            solved = sympy.solve([sympy.sympify(left) - int(right) for left, right in rows], letters)
            assert tuple(int(solved[letter]) for letter in letters) == tuple(numbers(problem.payload["answer"]))


def test_probabilities_are_what_counting_all_draws_says() -> None:
    from itertools import combinations

    for level in (1, 2, 3):
        for problem in questions("probability", level, 6):
            red, blue, draws = numbers(text(problem))[:3]
            hands = list(combinations([1] * red + [0] * blue, draws))
            wins = sum({1: sum(hand) == 2, 2: sum(hand) == 1, 3: sum(hand) >= 1}[level] for hand in hands)
            assert Fraction(problem.payload["answer"]) == Fraction(wins, len(hands))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_many_answers_and_its_gold_is_right_at_every_level(kind: str) -> None:
    env = StemEnv(StemConfig(kinds=(kind,), num_train=60))
    tasks = env.tasks("train")
    assert Counter(problem.difficulty for problem in tasks) == {0.0: 20, 0.5: 20, 1.0: 20}
    assert {problem.tags for problem in tasks} == {(TOPIC_OF[kind], kind)}
    assert len({problem.payload["answer"] for problem in tasks}) > 30
    assert Counter(problem.payload["answer"] for problem in tasks).most_common(1)[0][1] <= 6
    for problem in tasks:
        [gold] = FAMILY.gold(problem, None, None)  # type: ignore[arg-type]
        assert judged(gold.content, problem).passed, problem.payload
        assert not judged(text(problem), problem).passed


def test_every_topic_asked_for_is_there() -> None:
    assert set(TOPICS) == {"algebra", "number theory", "counting", "geometry", "calculus", "physics", "chemistry"}
    assert len(KINDS) == sum(map(len, TOPICS.values())) >= 25


def test_a_problem_is_in_one_split_only_and_the_same_every_time() -> None:
    env, again = StemEnv(), StemEnv(StemConfig(seed=1))
    train, heldout = ({text(problem) for problem in env.tasks(split)} for split in ("train", "heldout"))
    assert not train & heldout
    assert not {text(problem) for problem in again.tasks("train")} & heldout
    assert env.tasks("train") == StemEnv().tasks("train")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no kind called alchemy; there are linear_equation"):
        StemConfig(kinds=("alchemy",))


# ---------------------------------------------------------------------------------------------
# Problems from files
# ---------------------------------------------------------------------------------------------


def written(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


async def played(env: StemEnv, problem: Task, reply: str) -> Score:
    await env.reset(problem, 0)
    await env.step(Message("assistant", reply))
    return await env.score(Trace("t", problem.id, 0, "", [], [], []))


def test_files_of_both_forms_are_read(tmp_path: Path) -> None:
    file = written(
        tmp_path / "mine.jsonl",
        {"question": "6 eggs at $7 each cost how many dollars?", "answer": "6*7 = <<6*7=42>>42\n#### 42"},
        {"problem": "Solve x^2 = 8.", "answer": "\\{-2\\sqrt{2}, 2\\sqrt{2}\\}"},
        {"problem": "Where is y^2 < 1?", "answer": "(-1, 1]"},
        {"question": "Which point is it?", "answer": "(1, -2)"},
        "",
        {"question": "What is half of 25?", "answer": 12.5},
        {"question": "What is half of 25?", "answer": 12.5},
    )
    env = StemEnv(files=[file])
    tasks = {text(problem): problem for split in ("train", "heldout") for problem in env.tasks(split)}
    assert [problem.payload["form"] for problem in tasks.values()].count("value") == 2
    replies = ("$42", "x = ±√8", "-1 < y <= 1", "(1, -2)", "25/2")
    for question, reply in zip(
        (
            "6 eggs at $7 each cost how many dollars?",
            "Solve x^2 = 8.",
            "Where is y^2 < 1?",
            "Which point is it?",
            "What is half of 25?",
        ),
        replies,
        strict=True,
    ):
        expected = reply != "x = ±√8"  # the file does not say that x is what is solved for
        assert asyncio.run(played(env, tasks[question], reply)).passed == expected, question
    assert asyncio.run(played(env, tasks["Solve x^2 = 8."], "±√8")).passed
    with pytest.raises(ValueError, match='no split "test"'):
        env.tasks("test")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "q", "answer": "(B)"}, "is a choice"),
        ("{", "Expecting property name"),
        ([1], 'want an object with "question"'),
        ({"answer": "1"}, '"question" \\(or "problem"\\) must be text'),
        ({"question": "q"}, '"answer" must be text or a number'),
        ({"question": "q", "answer": True}, '"answer" must be text or a number'),
        ({"question": "q", "answer": "\\text{Evelyn}"}, "cannot be judged: want a number"),
        ({"question": "q", "answer": "#### "}, "cannot be judged"),
        ({"question": "What is 1 + 1?", "answer": "3"}, "the same question had the answer '2' before"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: Any, said: str) -> None:
    file = written(tmp_path / "bad.jsonl", {"question": "What is 1 + 1?", "answer": "2"}, row)
    with pytest.raises(ValueError, match=rf"bad\.jsonl:2: .*{said}"):
        StemEnv(files=[file])


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.jsonl: No such file"):
        StemEnv(files=[tmp_path / "none.jsonl"])
    (tmp_path / "torn.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"torn\.jsonl: not UTF-8 text"):
        StemEnv(files=[tmp_path / "torn.jsonl"])


@pytest.mark.shared_data
@pytest.mark.skipif("OPENK2_DATA" not in os.environ, reason="set OPENK2_DATA to a folder that holds gsm8k/test.jsonl")
def test_gsm8k_is_read_whole_and_its_own_solutions_pass() -> None:
    file = Path(os.environ["OPENK2_DATA"]) / "gsm8k" / "test.jsonl"
    env = StemEnv(files=[file])
    tasks = [*env.tasks("train"), *env.tasks("heldout")]
    solutions = {
        row["question"]: row["answer"] for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())
    }
    assert len(tasks) == len(solutions) == 1319
    passed = [judged(solutions[text(problem)], problem).passed for problem in tasks]
    assert sum(passed) >= 1316  # a few say "the answer is <<8=8>>8" and then "#### 8"
    for problem in tasks:
        off = Fraction(problem.payload["answer"].replace(",", "")) + 1
        assert not judged(str(off), problem).passed
        assert not judged(text(problem), problem).passed


# ---------------------------------------------------------------------------------------------
# Speed
# ---------------------------------------------------------------------------------------------


def test_numbers_are_judged_by_the_hundred_a_second() -> None:
    reply = "First 3 * 4 = 12, then we add 5 and get 17.\n" * 20 + "So the answer is \\boxed{\\frac{35}{2}}."

    async def many() -> float:
        began = time.process_time()
        for _ in range(200):
            assert (await verify(reply, task("17.5"))).passed
        return 200 / (time.process_time() - began)

    assert asyncio.run(many()) > 300
