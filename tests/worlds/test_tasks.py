import json
import re
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.schema import Task
from openk2.worlds.config import SPLITS, WorldsConfig
from openk2.worlds.gates import failed_gate
from openk2.worlds.kinds import KINDS
from openk2.worlds.spec import App
from openk2.worlds.tasks import Split, make_task
from openk2.worlds.users import ACTS, FRAMES, REQUESTS

CONFIG = WorldsConfig()


@pytest.mark.parametrize("split", SPLITS)
def test_every_app_and_kind_of_a_split_passes_the_gates(split):
    seen = Counter()
    for index in range(500):
        task = make_task(CONFIG, split, index)
        cell = task.tags[0], task.kind
        seen[cell] += 1
        if seen[cell] <= 3:
            assert failed_gate(task, seed=index) is None, task.to_json()
    apps, kinds = {app for app, _ in seen}, {kind for _, kind in seen}
    known = set(KINDS) - set(CONFIG.undemonstrated_kinds)
    match split:
        case "train" | "heldout":
            assert (apps, kinds) == (set(CONFIG.demonstrated), known)
        case "unseen_domain":
            assert (apps, kinds) == (set(CONFIG.unseen), known)
        case _:
            assert (apps, kinds) == ({*CONFIG.demonstrated, *CONFIG.undemonstrated}, set(KINDS))
            for app, kind in seen:
                assert (app in CONFIG.undemonstrated) != (kind in CONFIG.undemonstrated_kinds)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(SPLITS), st.integers(0, 10**6))
def test_any_seed_makes_sound_tasks(seed, split, index):
    config = WorldsConfig(seed=seed)
    task = make_task(config, split, index)
    assert failed_gate(task, seed=seed) is None, task.to_json()
    again = json.loads(json.dumps(task.to_json()))
    assert Task.from_json(again).to_json() == task.to_json() == make_task(config, split, index).to_json()


@pytest.mark.parametrize(
    ("apps", "kinds", "tag"),
    [((), ("both",), "new_kind"), (("clinic",), (), "new_app"), ((), ("lookup", "set"), "new_kind")],
)
def test_what_is_undemonstrated_can_be_kinds_alone_or_apps_alone(apps, kinds, tag):
    config = WorldsConfig(undemonstrated=apps, undemonstrated_kinds=kinds)
    tasks = [make_task(config, "undemonstrated", index) for index in range(60)]
    assert {task.tags[1] for task in tasks} == {tag}
    assert {task.kind for task in tasks} == set(kinds or KINDS)
    assert {task.tags[0] for task in tasks} == set(apps or config.demonstrated)


def test_rl_without_a_task_of_its_own_is_refused():
    with pytest.raises(ValueError, match="both empty"):
        WorldsConfig(undemonstrated=(), undemonstrated_kinds=())


def test_splits_are_sequences():
    split = Split(WorldsConfig(num_heldout=5), "heldout")
    assert [task.id for task in split] == [f"heldout-00000{n}" for n in range(5)]
    assert split[-1] == split[4]
    assert [task.id for task in split[1:3]] == ["heldout-000001", "heldout-000002"]
    with pytest.raises(IndexError):
        split[5]
    with pytest.raises(ValueError, match="there are train"):
        Split(CONFIG, "test")


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"unseen": ("shop",)}, "shop"),
        ({"num_tools": (3, 2)}, "num_tools"),
        ({"demonstrate": ("shop",)}, "demonstrate"),
        ({"unseen": ()}, "at least one app each"),
        ({"undemonstrated_kinds": tuple(KINDS)}, "leaves no kind to demonstrate"),
    ],
)
def test_a_bad_config_is_refused(knobs, reason):
    with pytest.raises(ValueError, match=reason):
        WorldsConfig(**knobs)


def test_an_unknown_app_or_kind_is_named():
    with pytest.raises(ValueError, match="there is no 'shopp', there are shop"):
        WorldsConfig(demonstrated=("shopp",))
    with pytest.raises(ValueError, match="undemonstrated_kinds: there is no 'juggle', there are lookup"):
        WorldsConfig(undemonstrated_kinds=("juggle",))


def values_of(task):
    """Every open value of a task's records, in parts."""
    app = App.from_json(task.payload["app"])
    columns = {
        (entity.name, field.name): field for entity in app.entities for field in entity.fields if field.type != "enum"
    }
    out = set()
    for entity, rows in task.payload["rows"].items():
        for row in rows:
            for name, value in row.items():
                if (entity, name) in columns:
                    kind = columns[entity, name].type
                    out |= set(re.split(r"[@.]", value)[:2]) if kind == "email" else {str(value).lower()}
    return out


def test_heldout_values_never_occur_in_training():
    seen = defaultdict(set)
    for split in SPLITS:
        for task in Split(CONFIG, split)[:400]:
            seen[split] |= values_of(task)
    train = seen["train"] | seen["undemonstrated"]
    for split in ("heldout", "undemonstrated_heldout", "unseen_domain"):
        assert len(seen[split]) > 500
        assert not train & seen[split]


def test_renaming_is_for_training_alone_and_at_its_share():
    renamed = ["renamed" in task.tags for task in Split(CONFIG, "train")[:400]]
    assert 0.72 < sum(renamed) / 400 < 0.88
    for split in SPLITS[1:]:
        assert not any("renamed" in task.tags for task in Split(CONFIG, split)[:50])


def test_requests_name_all_that_the_first_call_needs():
    for split in SPLITS:
        for task in Split(CONFIG, split)[:150]:
            first = task.payload["plan"][0]
            for value in first["arguments"].values():
                assert str(value) in task.payload["request"], task.to_json()


def test_dialogues_are_short_and_phrasings_many():
    for split in SPLITS:
        for task in Split(CONFIG, split)[:150]:
            assert len(task.payload["request"]) < 160
            assert 2 <= len(task.payload["app"]["tools"]) <= 3
    assert all(len(phrases) >= 6 for phrases in (FRAMES, *REQUESTS.values()))
    assert len(FRAMES) * min(len(acts) for acts in ACTS.values()) >= 6
