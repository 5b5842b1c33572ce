import json

import pytest

from openk2.schema import Rubric
from openk2.worlds.neighbours.desk_gates import failed_gates, play, writes
from openk2.worlds.neighbours.records import Records
from openk2.worlds.neighbours.tau2 import plain, read_domain, read_tasks

DATABASE = {
    "tasks": {"task_1": {"task_id": "task_1", "title": "Old", "description": None, "status": "pending"}},
    "users": {"ann": {"user_id": "ann", "name": "Ann", "tasks": ["task_1"]}, "bob": {"user_id": "bob", "tasks": []}},
}
CREATE = {"name": "create_task", "arguments": {"user_id": "ann", "title": "New"}}
DONE = {"name": "update_task_status", "arguments": {"task_id": "task_1", "status": "completed"}}
TRANSFER = {"name": "transfer_to_human_agents", "arguments": {"summary": "no"}, "compare_args": []}


@pytest.fixture
def domain(tmp_path):
    folder = tmp_path / "mock"
    folder.mkdir()
    (folder / "db.json").write_text(json.dumps(DATABASE))
    (folder / "policy.md").write_text("Be kind.")
    return read_domain(folder)


@pytest.fixture
def read(domain, tmp_path):
    def read(initial=None, **criteria):
        item = {
            "id": "t", "user_scenario": {"instructions": "Do."}, "initial_state": initial, "evaluation_criteria": criteria,
        }  # fmt: skip
        path = tmp_path / "tasks.json"
        path.write_text(json.dumps([item]))
        return read_tasks(domain, path)

    return read


def test_the_records_must_end_as_the_benchmarks_calls_leave_them(domain, read):
    (task,) = read(actions=[CREATE, DONE]).tasks
    assert (task.id, task.family, task.kind, task.split) == ("tau2_mock-t", "tau2", "tau2_mock", "test")
    assert failed_gates(domain, task) == []
    plan = task.payload["plan"]
    assert play(domain, task, plan, []).passed
    assert play(domain, task, plan[::-1], []).passed
    assert (
        play(domain, task, [plan[0], {**plan[1], "arguments": {"task_id": "task_1", "status": "pending"}}], []).total
        < 1
    )
    other = {**plan[0], "arguments": {"user_id": "bob", "title": "New"}}
    assert play(domain, task, [other, plan[1]], []).total == 0
    assert type(task.rubric) is Rubric


def test_a_tool_that_writes_and_is_not_needed_is_forbidden(domain, read):
    (task,) = read(actions=[DONE]).tasks
    assert {item.name for item in task.rubric.items} == {"tasks task_1", "nothing_else", "no create_task"}


def test_facts_must_be_said_in_whatever_form_a_number_has(domain, read):
    (task,) = read(actions=[DONE], communicate_info=["1131.10", "943 Maple Drive", "60"]).tasks
    assert failed_gates(domain, task) == []
    for said in ("$1,131.1 for 943 maple drive, 60.00 each", "60\n1131.10\n943\nMaple Drive"):
        assert play(domain, task, task.payload["plan"], [said]).passed
    for said in ("", "1131.10 and 60", "1131.15, 943 Maple Drive, 60", "1131.10, 943 Maple Drive, 600"):
        assert not play(domain, task, task.payload["plan"], [said]).passed


def test_plain_numbers():
    assert plain("$1,131.10,\n2.50 and 10,000.00; 100 1.5L") == "$1131.1, 2.5 and 10000; 100 1.5L"


def test_the_calls_count_where_the_benchmark_counts_them(domain, read):
    (task,) = read(actions=[TRANSFER], reward_basis=["DB", "ACTION"]).tasks
    assert failed_gates(domain, task) == []
    assert play(domain, task, [{"tool": "transfer_to_human_agents", "arguments": {"summary": "else"}}], []).passed
    (task,) = read(actions=[TRANSFER]).tasks
    assert failed_gates(domain, task) == ["idle"]
    assert not writes(domain, task)


def test_what_came_before_is_done_before(domain, read):
    (calls,) = read(
        {"initialization_actions": [{"env_type": "assistant", "func_name": "create_task", **CREATE}]}, actions=[DONE]
    ).tasks
    (data,) = read(
        {"initialization_data": {"agent_data": {"tasks": {"task_1": {"title": "Newer"}}}}}, actions=[DONE]
    ).tasks
    said = [
        {"role": "user", "content": "Make one."},
        {"role": "assistant", "tool_calls": [{"id": "c", **CREATE}]},
        {"role": "tool", "id": "c", "content": "{}"},
        {"role": "assistant", "content": "Made."},
    ]
    (history,) = read({"message_history": said}, actions=[DONE]).tasks
    for task in (calls, data, history):
        assert failed_gates(domain, task) == []
    assert (
        calls.payload["setup"]
        == history.payload["setup"]
        == [{"tool": "create_task", "arguments": CREATE["arguments"]}]
    )
    assert history.payload["history"][2] == {"role": "tool", "content": "{}", "tool_call_id": "c"}
    assert domain.records.hash() == Records(DATABASE).hash()


def asserts(status, env_type="assistant", func_name="assert_task_status", **more):
    return {
        "env_type": env_type,
        "func_name": func_name,
        "arguments": {"task_id": "task_1", "expected_status": status},
        **more,
    }


def test_an_assertion_is_a_state(domain, read):
    (task,) = read(actions=[DONE], env_assertions=[asserts("completed")], reward_basis=["ENV_ASSERTION"]).tasks
    assert [item.name for item in task.rubric.items] == ["asserts task_1"]
    assert play(domain, task, task.payload["plan"], []).passed
    assert not play(domain, task, [], []).passed


@pytest.mark.parametrize(
    ("criteria", "reason"),
    [
        ({"nl_assertions": ["The user is praised."]}, "success is for a judging model alone"),
        ({"env_assertions": [asserts("completed")]}, "names no calls that would do it"),
        ({"actions": [DONE], "env_assertions": [asserts("x", "user")]}, "needs tools on the user's side"),
        (
            {"actions": [DONE], "env_assertions": [asserts("x", func_name="ask")]},
            "asserts by ask, which is unknown here",
        ),
        (
            {"actions": [DONE], "env_assertions": [asserts("x", assert_value=False)]},
            "asserts by assert_task_status, which is unknown here",
        ),
        ({"actions": [{"name": "burn", "arguments": {}}]}, "calls burn, which is no tool of the domain"),
        (
            {"actions": [{"name": "create_task", "arguments": {"user_id": "eve", "title": "x"}}]},
            "the benchmark's own create_task is refused: user not found",
        ),
    ],
)
def test_what_cannot_be_mapped_has_its_reason(read, criteria, reason):
    assert read(**criteria).counts() == {"tau2_mock": {"items": 1, "mapped": 0, "refused": {reason: 1}}}


def test_a_refused_write_is_no_matter_where_another_does_it(domain, read):
    wrong = {"name": "update_task_status", "arguments": {"task_id": "task_1", "status": "no such"}}
    (task,) = read(actions=[wrong, DONE]).tasks
    assert failed_gates(domain, task) == []
    assert read(actions=[DONE, CREATE, {**wrong, "arguments": {"task_id": "task_9", "status": "pending"}}]).tasks == ()


def test_an_unknown_domain_is_named(tmp_path):
    with pytest.raises(ValueError, match="no tools for the domain 'airline': there are retail, mock"):
        read_domain(tmp_path / "airline")


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "mapped", "idle"), [("mock", 7, 0), pytest.param("retail", 113, 6, marks=pytest.mark.slow)]
)
def test_the_benchmarks_tasks_are_mapped_and_their_gates_hold(data, name, mapped, idle):
    folder = data / "tau2" / name
    domain = read_domain(folder)
    tasks = read_tasks(domain, folder / "tasks.json").tasks
    assert len(tasks) == mapped
    failed = {task.id: gates for task in tasks if (gates := failed_gates(domain, task))}
    assert list(failed.values()) == [["idle"]] * idle
    assert not any(writes(domain, task) for task in tasks if task.id in failed)
