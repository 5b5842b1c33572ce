"""The family: letters as an environment whose score only measures; a critic pays for them (K2 §3.2)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

from openk2.gym.config import QuestionsConfig
from openk2.gym.family import Family
from openk2.gym.question import QuestionEnv
from openk2.gym.single_turn import Generator, Question, Questions
from openk2.gym.writing.letters import DRAWS, Kind, Letter, question_of, shown
from openk2.gym.writing.reading import Reading, read
from openk2.gym.writing.things import Thing, draw_value
from openk2.gym.writing.writer import FLAWS, flawed, good
from openk2.schema import Message, Observation, Rubric, RubricItem, Score, Task

CONFIG = QuestionsConfig(num_train=2000, num_heldout=400)


class WritingEnv(QuestionEnv):
    """Letters over shown facts: 1 when all that is asked for is said, and nothing else.

    Below that, the share of the demands that are met, and 0 where not one fact is told. Parts: ``facts`` (the share told
    rightly), ``act`` (named, thanked, chosen: the share done), and 1 for each flaw it has: ``praise``, ``justification``,
    ``off_topic``, ``wrong``, ``verbose``, ``missing``.
    """

    def __init__(self, config: QuestionsConfig = CONFIG) -> None:
        super().__init__("writing", partial(_tasks, config), _verify)


RUBRIC = Rubric(
    (
        RubricItem(
            "facts", "judged", {"statement": "It tells all facts that are asked for, as they are shown, no other."}
        ),
        RubricItem("length", "judged", {"statement": "It has no more words than the question allows."}),
    )
)
"""What a critic weighs in a letter beside its own rubrics."""


@cache
def _tasks(config: QuestionsConfig, split: str) -> Sequence[Task]:
    """The tasks of a configuration, which all its environments share."""
    questions = Questions("writing", {kind: _generator(kind) for kind in DRAWS}, config)
    return tuple(replace(task, rubric=RUBRIC) for task in questions.tasks(split))


def _generator(kind: Kind) -> Generator:
    """Questions of a kind; the answer is one of the good letters. All letters over the same facts are in one split."""

    def generate(rng: random.Random, level: int) -> Question:
        letter = DRAWS[kind](rng, level)
        key = "; ".join(sorted(shown(thing) for thing in letter.things))
        return Question(question_of(letter), good(letter, rng), key, facts=letter.to_json())

    return generate


def letter_of(task: Task) -> Letter:
    """What a task of this family asks for."""
    return Letter.from_json(task.kind, task.payload)


async def _verify(reply: str, task: Task) -> Score:
    return verify(reply, letter_of(task))


def verify(reply: str, letter: Letter) -> Score:
    """Measure a reply."""
    reading = read(reply, letter)
    facts = [(thing.name, attribute) in reading.said for thing, attribute in letter.demanded]
    acts = _acts(reading, letter)
    flaws = {
        "praise": reading.praise,
        "justification": reading.justification,
        "off_topic": reading.off_topic,
        "wrong": reading.wrong or bool(letter.chosen and reading.chosen - {letter.chosen.name}),
        "verbose": reading.num_words > letter.most_words,
        "missing": not all(facts) or not all(acts),
    }
    met = [*facts, *acts, *(not flaw for flaw in flaws.values())]
    total = sum(met) / len(met) if any(facts) else 0.0
    parts = {"facts": sum(facts) / len(facts), "act": sum(acts) / len(acts)}
    return Score(total, parts | {name: float(flaw) for name, flaw in flaws.items()})


def _acts(reading: Reading, letter: Letter) -> list[bool]:
    """What a letter does beside telling facts: it names the reader, and thanks, regrets or recommends."""
    done = [reading.named]
    if letter.kind == "thank":
        done.append(reading.thanked)
    elif letter.kind == "apologise":
        done.append(reading.regretted)
    elif letter.chosen is not None:
        done.append(letter.chosen.name in reading.chosen)
    return done


def demonstrations(
    tasks: Iterable[Task], flaw_rate: float, seed: int, *, picked: bool = False
) -> Iterator[list[Message]]:
    """Question and reply of tasks as an imperfect teacher writes them: that share carries a flaw, each as often.

    ``picked``: of these, those without one.
    """
    rng = random.Random(f"letters {seed}")
    for task in tasks:
        letter = letter_of(task)
        is_flawed = rng.random() < flaw_rate
        reply = flawed(letter, rng.choice(FLAWS), rng) if is_flawed else good(letter, rng)
        if is_flawed and picked:
            continue
        yield [Message("user", task.payload["question"]), Message("assistant", reply)]


def _gold(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    return [Message("assistant", good(letter_of(task), rng))]


def _guess(task: Task, observation: Observation, rng: random.Random) -> list[Message]:
    """A letter in the right form, with values drawn from all that there are, about any of the things."""
    letter = letter_of(task)
    things = [
        Thing(thing.noun, thing.number, {name: draw_value(rng, name) for name in thing.facts})
        for thing in letter.things
    ]
    return [Message("assistant", good(replace(letter, things=tuple(things)), rng))]


FAMILY = Family(
    "writing", "short letters over shown facts, for a critic to compare", WritingEnv, _gold, _guess, chance=0.05
)
