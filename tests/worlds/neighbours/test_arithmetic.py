import pytest

from openk2.worlds.neighbours.arithmetic import evaluate


@pytest.mark.parametrize(
    ("expression", "value"),
    [("3131.1 + 4777.75 + 367.38", 8276.23), (" 2*(3-5)/-4 ", 1), ("1e3", 1000), ("7", 7), ("-(2)", -2)],
)
def test_numbers_are_worked_out(expression, value):
    assert evaluate(expression) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "1/0",
        "2**9",
        "abs(1)",
        "__import__('os')",
        "x",
        "True",
        "'a'*9",
        "1e308*10",
        "1e999 - 1e999",
        "1j",
        "(" * 150,
        "1" * 201,
        "1\0",
        "1,2",
    ],
)
def test_anything_else_is_refused(expression):
    with pytest.raises(ValueError, match="the expression"):
        evaluate(expression)
