import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openk2.worlds.neighbours.patterns import NOTHING, example, matches

TEXT = {"text": "New York, NY"}
PLACE = {"fields": {"city": TEXT, "zip": {"integer": 1}}, "optional": ["zip"]}


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (
            TEXT,
            ["New York, NY", "new york NY", "new-york ny"],
            ["York", "New York, NY, USA", 5, None, ["New York, NY"]],
        ),
        ({"text": "it's"}, ['it"s'], ["its"]),
        ({"holds": "dinner"}, ["dinner", "A late Dinner."], ["din", "", 1]),
        ({"integer": 5}, [5], [5.0, "5", True, 6]),
        ({"integer": 1}, [1], [True]),
        ({"value": 5}, [5, 5.0], ["5", 5.1, None]),
        ({"value": True}, [True], [1, "true", False]),
        ({"value": 1}, [1, 1.0], [True]),
        ({"value": None}, [None], [0, False, ""]),
        ({"any_of": [{"integer": 1}, TEXT]}, [1, "New York NY"], [2]),
        ({"any_of": []}, [], [None, 0, ""]),
        ({"items": [TEXT, {"integer": 1}]}, [["New York NY", 1]], [[1, "New York NY"], ["New York NY"], [], "NY"]),
        (PLACE, [{"city": "new york ny"}, {"city": "New York, NY", "zip": 1}], [{"zip": 1}, {"city": "x"}, {}, []]),
        (PLACE, [], [{"city": "New York, NY", "zip": 2}, {"city": "New York, NY", "other": 1}]),
    ],
)
def test_what_a_pattern_stands_for(pattern, right, wrong):
    assert [value for value in right if not matches(pattern, value)] == []
    assert [value for value in wrong if matches(pattern, value)] == []


def test_an_unknown_pattern_is_named():
    for use in (lambda pattern: matches(pattern, 1), example):
        with pytest.raises(ValueError, match=r"no pattern: \{'txt': 'a'\}"):
            use({"txt": "a"})


scalars = st.one_of(
    st.builds(lambda text: {"text": text}, st.text()),
    st.builds(lambda text: {"holds": text}, st.text()),
    st.builds(lambda number: {"integer": number}, st.integers()),
    st.builds(lambda value: {"value": value}, st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False))),
)
patterns = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(lambda each: {"any_of": each}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda each: {"items": each}, st.lists(inner, max_size=3)),
        st.builds(
            lambda each: {"fields": each, "optional": list(each)[:1]}, st.dictionaries(st.text(), inner, max_size=3)
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(patterns)
def test_an_example_matches(pattern):
    assert matches(pattern, example(pattern))


def test_where_nothing_is_right_there_is_no_example():
    assert example({"any_of": []}) is NOTHING
    assert example({"fields": {"a": {"any_of": []}, "b": {"value": 1}}, "optional": ["a"]}) == {"b": 1}
