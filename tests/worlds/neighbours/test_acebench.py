import json

import pytest

from openk2.schema import Message, ToolCall
from openk2.worlds.neighbours.acebench import read_acebench
from openk2.worlds.neighbours.call_gates import failed_gates
from openk2.worlds.neighbours.calls import judge_turn

MEALS = {
    "name": "Meals.plan",
    "description": "Plans meals.",
    "parameters": {
        "type": "dict",
        "properties": {
            "meal": {"type": "string"},
            "count": {"type": "number"},
            "diet": {"type": "object", "properties": {"vegan": {"type": "boolean"}, "dishes": {"type": "list"}}},
        },
        "required": ["meal"],
    },
}
DIET = {"vegan": True, "dishes": ["Pad Thai"]}
QUESTION = "user: Dinner?\nsystem: For how many?\nsystem: [Guests_count()]\nuser: For two,\nplease.\n"


def folder(tmp_path, category, *truths, **fields):
    """A file of as many items as answers."""
    (tmp_path / "possible_answer").mkdir(exist_ok=True)
    item = {"question": QUESTION, "function": [MEALS], "time": "Today is Monday.", **fields}
    name = f"data_{category}.json"
    (tmp_path / name).write_text("\n".join(json.dumps({"id": f"{category}_{i}", **item}) for i in range(len(truths))))
    answers = (json.dumps({"id": f"{category}_{i}", "ground_truth": truth}) for i, truth in enumerate(truths))
    (tmp_path / "possible_answer" / name).write_text("\n".join(answers))
    return tmp_path


def tasks(*made, **fields):
    return read_acebench(folder(*made, **fields)).tasks


def score(task, *calls, content=""):
    made = [ToolCall("", "Meals_plan", json.dumps(arguments)) for arguments in calls]
    return judge_turn(task.payload, Message("assistant", content, made)).total


def test_the_dialogue_becomes_messages_and_what_is_known_the_system_message(tmp_path):
    (task,) = tasks(tmp_path, "normal_preference", {"Meals_plan": {"meal": "dinner"}}, profile="likes rice")
    system, *dialogue = task.payload["messages"]
    assert system["content"].endswith("user's own words.\n\nToday is Monday.\n\nlikes rice")
    assert dialogue == [
        {"role": "user", "content": "Dinner?"},
        {"role": "assistant", "content": "For how many?\n[Guests_count()]"},
        {"role": "user", "content": "For two,\nplease."},
    ]


def test_texts_hold_the_answers_and_everything_else_equals_it(tmp_path):
    (task,) = tasks(tmp_path, "normal_atom_bool", {"Meals_plan": {"meal": "dinner", "count": 2, "diet": DIET}})
    assert failed_gates(task) == []
    for right in ({}, {"count": 2.0}, {"diet": {**DIET, "dishes": ["pad thai"]}}):
        assert score(task, {"meal": "late Dinner", **right}) == 1
    for wrong in (
        {"meal": "lunch"},
        {"count": 3},
        {"diet": {"vegan": True}},
        {"diet": {**DIET, "vegan": False}},
        {"diet": {**DIET, "dishes": ["Pad Thai", "Rice"]}},
        {"guests": 2},
    ):
        assert score(task, {"meal": "dinner", **wrong}) == 0
    assert score(task, {"count": 2}) == 0


def test_a_function_called_twice_is_numbered_in_the_answer(tmp_path):
    truth = {"Meals.plan_1": {"meal": "lunch"}, "Meals.plan_2": {"meal": "dinner"}}
    (task,) = tasks(tmp_path, "normal_single_turn_parallel_function", truth)
    assert score(task, {"meal": "dinner"}, {"meal": "lunch"}) == 1
    assert score(task, {"meal": "dinner"}) == 0


def test_one_of_several_answers_is_enough(tmp_path):
    (task,) = tasks(tmp_path, "normal_atom_bool", [{"Meals.plan": {"meal": "lunch"}}, {"Meals.plan": {"meal": "tea"}}])
    assert [score(task, {"meal": meal}) for meal in ("lunch", "tea", "dinner")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("category", "truth", "right", "wrong"),
    [
        (
            "special_incomplete",
            {"Meals.plan": [" meal ", "count"]},
            "Missing necessary parameters (meal, count) for the api (Meals_plan)",
            "Missing necessary parameters (meal) for the api (Meals_plan)",
        ),
        (
            "special_error_param",
            {"count": ["-5"]},
            "There is incorrect value (-5) for the parameters (count) in the conversation history.",
            "There is incorrect value (5) for the parameters (count) in the conversation history.",
        ),
        (
            "special_irrelevant",
            "Due to the limitations of the function, I cannot solve this problem.",
            "Due to the limitations of the function, I cannot solve this problem.",
            "I cannot solve this problem.",
        ),
    ],
)
def test_special_items_want_words_in_the_form_that_the_system_message_gives(tmp_path, category, truth, right, wrong):
    (task,) = tasks(tmp_path, category, truth)
    assert failed_gates(task) == []
    assert right.split(" (")[0] in task.payload["messages"][0]["content"]
    assert score(task, content=right) == 1
    assert score(task, content=wrong) == 0
    assert score(task, {"meal": "dinner"}, content=right) == 0


def test_what_cannot_be_mapped_is_counted_by_reason(tmp_path):
    folder(tmp_path, "agent_multi_step", [{"BaseApi": {}}])
    folder(tmp_path, "normal_atom_enum", {"Other": {}}, {"Meals_plan": {"x": 1}}, {"Meals_plan": {"count": 1}})
    folder(tmp_path, "normal_atom_list", {"Meals_plan": {"meal": "a"}}, question="Dinner?")
    folder(tmp_path, "normal_atom_number", {"Meals_plan": {"meal": "a"}}, question="user: a\nsystem: b")
    counts = read_acebench(tmp_path).counts()
    assert all(each["mapped"] == 0 for each in counts.values())
    assert [list(each["refused"]) for each in counts.values()] == [
        ["plays in simulated apps whose records and code are not in the data"],
        [
            "the answer calls a tool that is not declared",
            "the answer has an argument that is not declared",
            "the answer lacks a required argument",
        ],
        ["the question is no dialogue of user and system"],
        ["the dialogue does not end with the user"],
    ]


def test_a_folder_without_data_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no data_CATEGORY"):
        read_acebench(tmp_path)


@pytest.mark.shared_data
def test_all_but_the_simulated_apps_and_one_name_are_mapped_and_their_gates_hold(data):
    mapped = read_acebench(data / "acebench_en")
    assert len(mapped.tasks) == 972
    assert len(mapped.refused) == 51
    assert {task.id: gates for task in mapped.tasks if (gates := failed_gates(task))} == {}
