from __future__ import annotations

import json
import random
import re
from itertools import islice, pairwise

import pytest

from openk2.data.copying import _FAMILIES, calls, copying, edits, objects, recall, repeats
from openk2.data.knowledge import knowledge
from openk2.data.values import Values


@pytest.mark.parametrize("source", [copying, knowledge])
def test_the_same_seed_tells_the_same_and_another_seed_another(source) -> None:
    first, again, other = (list(islice(source(seed), 100)) for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)
    assert len(set(first)) == 100


def values(seed: int) -> Values:
    return Values(random.Random(seed))


def test_values_come_from_an_open_vocabulary() -> None:
    make = values(0)
    assert len({make.person() for _ in range(2000)}) > 1980
    assert len({make.code() for _ in range(2000)}) > 1800
    assert len({make.email() for _ in range(2000)}) > 1980


@pytest.mark.parametrize("family", _FAMILIES, ids=lambda family: family.__name__)
def test_loss_lies_only_on_what_stands_before(family) -> None:
    """Every word that carries loss, beyond the fixed words of the calls, was shown earlier in the document."""
    for seed in range(150):
        before = ""
        for text, loss in family(values(seed)):
            if loss:
                known = set(re.findall(r"\w+", before)) | {"functions", "0", "1", "2", "3", "4"}
                assert set(re.findall(r"\w+", text)) <= known, (before, text)
            before += text


def test_every_document_has_loss_and_something_before_it() -> None:
    for document in islice(copying(0), 500):
        assert any(loss for _, loss in document.parts)
        assert not document.parts[0][1]


def test_repeats_say_the_segment_again() -> None:
    (segment, first), *again = repeats(values(0))
    assert not first
    assert again
    assert all(part == (segment, True) for part in again)


def test_recall_asks_for_the_value_of_the_key() -> None:
    (shown, _), *asked = recall(values(0))
    for (key, _), (value, loss) in zip(asked[::2], asked[1::2], strict=True):
        assert key + value in shown
        assert loss


def test_objects_are_json_and_agree_with_the_records() -> None:
    for seed in range(50):
        lines = "".join(text for text, _ in objects(values(seed))).splitlines()
        records, *mentioned = map(json.loads, lines)
        for each in mentioned:
            assert any(each.items() <= record.items() for record in records)


def test_edits_change_one_field() -> None:
    for seed in range(50):
        lines = "".join(text for text, _ in edits(values(seed))).splitlines()
        records = [json.loads(line) for line in lines[::2]]
        for old, new in pairwise(records):
            assert sum(old[key] != new[key] for key in old) <= 1


def test_calls_name_a_declared_tool_with_all_its_parameters() -> None:
    for seed in range(50):
        _, declared, *rest = "".join(text for text, _ in calls(values(seed))).splitlines()
        tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in json.loads(declared)}
        for index, line in enumerate(rest[1::2]):
            name, number, arguments = re.fullmatch(r"functions\.(\w+):(\d+)(\{.*\})", line).groups()
            assert int(number) == index
            assert list(json.loads(arguments)) == tools[name]["required"]


def test_knowledge_answers_what_it_told() -> None:
    for document in islice(knowledge(0), 200):
        told, *questions = document.text.splitlines()
        for line in questions:
            answer = line.split("? ", 1)[1].removesuffix(".")
            assert answer in told
