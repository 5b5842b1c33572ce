from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.view.json_text import pretty_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=100)
@given(values)
def test_the_value_stays_the_same(value: object) -> None:
    assert json.loads(pretty_json(json.dumps(value))) == value


def test_short_stays_on_a_line_and_long_is_broken() -> None:
    assert pretty_json('{"a":[1,2]}') == '{"a": [1, 2]}'
    lines = pretty_json(json.dumps({"rows": [{"id": i, "name": "x" * 30} for i in range(3)]})).splitlines()
    assert lines[0] == "{"
    assert lines[2] == f'    {{"id": 0, "name": "{"x" * 30}"}},'


def test_other_text_is_left_alone() -> None:
    assert pretty_json('{"to": "AC-') == '{"to": "AC-'
