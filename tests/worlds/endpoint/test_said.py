import pytest

from openk2.worlds.endpoint.said import only_said_what_it_knew
from openk2.worlds.endpoint.user import Scenario

SCENARIO = Scenario(
    "Anna Bergmann, a busy traveller", "move the booking to a later day",
    {"booking": "K-481", "paid": 1250, "arrival": "2027-03-14", "email": "anna@mail.org", "hotel": "Seeblick"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("It is K-481, and I paid 1,250 for it.", []),
        ("We arrive on March 14, or 14th of March 2027.", []),
        ("My name is Anna Bergmann, write to anna@mail.org about the Seeblick.", []),
        ("I would like the one at 10:30, please.", []),  # the assistant offered it
        ("Can you move it to Monday? I think so.", []),
        ("Is Anna there? It is my 2nd try, at 10:30am.", []),
        ("Please ask Jürgen.", ["jürgen"]),
        ("It is K-482.", ["k-482"]),
        ("I paid 1,300.", ["1300"]),
        ("I paid 125.", ["125"]),
        ("We arrive on March 15.", ["--03-15"]),
        ("We arrive on 2028-03-14.", ["2028-03-14"]),
        ("My name is Peter Bergmann.", ["peter"]),
        ("Write to peter@mail.org at 11:30.", ["11:30", "peter@mail.org"]),
        ("Peter Miller speaking.", ["miller"]),
    ],
)
def test_values_a_user_cannot_know(text, unknown):
    assert only_said_what_it_knew(text, SCENARIO, ["We have 10:30 or noon."]) == unknown


def test_what_was_heard_may_be_repeated():
    assert only_said_what_it_knew("Yes, X-7 is fine.", SCENARIO, []) == ["x-7"]
    assert only_said_what_it_knew("Yes, X-7 is fine.", SCENARIO, ["Room X-7 is free."]) == []
