import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.worlds.domains import APPS
from openk2.worlds.state import State
from openk2.worlds.tools import compile_tools, execute

BANK = APPS["bank"]


def account(key, balance, status="active"):
    return {
        "account": key, "owner": "O-1", "iban": f"I{key}", "balance": balance, "branch": "velo", "status": status,
    }  # fmt: skip


def bank():
    rows = [account("A-1", 100), account("A-2", 5), account("A-3", 50, "frozen")]
    return State(BANK, {"account": rows, "owner": []}, {"account": ["A-9"]})


def test_schemas_are_json_schema_objects():
    for app in APPS.values():
        for tool in compile_tools(app):
            assert tool.parameters["type"] == "object"
            assert tool.parameters["required"] == list(tool.parameters["properties"])
            assert {schema["type"] for schema in tool.parameters["properties"].values()} <= {"string", "integer"}
            assert 1 <= len(tool.description.split()) <= 4
            json.dumps(tool.to_json())


@pytest.mark.parametrize(
    ("tool", "arguments", "result"),
    [
        ("find_account", {"iban": "IA-2"}, {"account": "A-2"}),
        ("find_account", {"iban": "none"}, {"error": "account not found"}),
        ("get_account", {"account": "A-7"}, {"error": "account not found"}),
        ("get_account", {}, {"error": "missing account"}),
        ("get_account", {"account": 7}, {"error": "account must be a string"}),
        ("get_account", {"account": "\ud800"}, {"error": "account must be a string"}),
        ("get_account", {"account": "A-1", "x": 1}, {"error": "takes account only"}),
        ("get_account", ["A-1"], {"error": "arguments must be an object"}),
        ("rob_account", {}, {"error": "no such tool"}),
        ("deposit_balance", {"account": "A-1", "amount": True}, {"error": "amount must be an integer"}),
        ("deposit_balance", {"account": "A-1", "amount": 10**30}, {"error": "amount must be an integer"}),
        ("deposit_balance", {"account": "A-1", "amount": -5}, {"error": "amount must be positive"}),
        ("withdraw_balance", {"account": "A-2", "amount": 6}, {"error": "balance is 5"}),
        ("withdraw_balance", {"account": "A-3", "amount": 6}, {"error": "status is frozen"}),
        ("freeze_account", {"account": "A-3"}, {"error": "status is frozen"}),
        ("transfer_balance", {"source": "A-1", "target": "A-1", "amount": 1}, {"error": "source and target are the same"}),
        ("transfer_balance", {"source": "A-1", "target": "A-7", "amount": 1}, {"error": "account not found"}),
        ("open_account", {"owner": "O-1", "iban": "IA-1"}, {"error": "iban is taken"}),
    ],
)  # fmt: skip
def test_reads_and_refusals_leave_the_state(tool, arguments, result):
    world = bank()
    before = world.hash()
    assert execute(BANK, world, tool, arguments) == result
    assert world.hash() == before


def test_writes():
    world = bank()
    assert execute(BANK, world, "transfer_balance", {"source": "A-1", "target": "A-2", "amount": 40}) == {"ok": True}
    assert execute(BANK, world, "close_account", {"account": "A-3"}) == {"ok": True}
    assert execute(BANK, world, "set_branch", {"account": "A-1", "branch": "dona"}) == {"ok": True}
    assert execute(BANK, world, "open_account", {"owner": "O-1", "iban": "new"}) == {"account": "A-9"}
    assert execute(BANK, world, "open_account", {"owner": "O-1", "iban": "newer"}) == {"error": "limit reached"}
    assert world.rows()["account"] == {
        "A-1": account("A-1", 60) | {"branch": "dona"},
        "A-2": account("A-2", 45),
        "A-3": account("A-3", 50, "closed"),
        "A-9": account("A-9", 0) | {"iban": "new", "branch": ""},
    }


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), st.lists, max_leaves=3
)


@settings(max_examples=150)
@given(st.sampled_from([tool.name for tool in BANK.tools]), st.data())
def test_no_call_raises_and_no_answer_repeats_what_it_was_sent(name, data):
    names = [param.name for param in BANK.find_tool(name).params]
    arguments = {key: data.draw(values) for key in names} | data.draw(
        st.dictionaries(st.text(max_size=4), values, max_size=1)
    )
    result = execute(BANK, bank(), name, arguments)
    assert isinstance(result.get("error"), str) or "error" not in result
    marked = execute(BANK, bank(), name, dict.fromkeys(names, "ZEBRA"))
    assert "ZEBRA" not in json.dumps(marked)
