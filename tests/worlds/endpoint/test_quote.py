import json

from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.worlds.endpoint.quote import quoted


@settings(max_examples=50)
@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_nothing_quoted_leaves_its_tags(value):
    first, *middle, last = quoted("x", value).split("\n")
    assert (first, last) == ('<data name="x">', "</data>")
    inside = "\n".join(middle)
    assert "<" not in inside
    assert json.loads(inside) == value
