import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from openk2.optim.config import Phase, ScheduleConfig
from openk2.optim.schedule import learning_rate

BATCH = 67e6
K2 = ScheduleConfig(
    over="tokens",
    phases=(
        Phase(length=500 * BATCH, to=1.0),
        Phase(length=10e12 - 500 * BATCH, to=1.0),
        Phase(length=5.5e12, to=0.1, shape="cosine"),
        Phase(length=460e9, to=0.035),
    ),
)


@pytest.mark.parametrize(
    ("tokens", "printed"),
    [
        (BATCH, 2e-4 / 500),
        (250 * BATCH, 1e-4),
        (500 * BATCH, 2e-4),
        (5e12, 2e-4),
        (10e12, 2e-4),
        (12.75e12, 1.1e-4),  # half-way down the cosine
        (15.5e12, 2e-5),
        (15.5e12 + 400e9, 2e-5 - 13e-6 * 400 / 460),  # where the context grows to 32k
        (15.96e12, 7e-6),
        (20e12, 7e-6),
    ],
)
def test_the_printed_recipe(tokens, printed):
    assert learning_rate(K2, tokens=tokens, progress=0.0, peak=2e-4) == pytest.approx(printed, rel=1e-9)


def test_a_stage_of_unknown_length_goes_by_progress():
    at = [
        learning_rate(ScheduleConfig(), tokens=10**9, progress=p) for p in (0.0, 0.01, 0.02, 0.5, 0.7, 0.85, 1.0, 1.2)
    ]
    assert at == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0, 0.55, 0.1, 0.1])


def test_constant_from_the_first_step():
    schedule = ScheduleConfig(start=1.0, phases=(Phase(length=1.0, to=1.0),))
    assert {learning_rate(schedule, tokens=0, progress=p) for p in (0.0, 0.3, 1.0)} == {1.0}


def test_fractions_must_fill_the_stage():
    with pytest.raises(ValidationError, match=r"must sum to 1, they sum to 0\.9"):
        ScheduleConfig(phases=(Phase(length=0.9, to=1.0),))


phases = st.builds(Phase, length=st.floats(1, 1e3), to=st.floats(0, 1), shape=st.sampled_from(["linear", "cosine"]))


@given(st.lists(phases, min_size=1, max_size=5), st.floats(0, 1))
@settings(max_examples=50)
def test_phases_meet(listed, start):
    """At each boundary the learning rate is what the phase promised, from both sides; between, it stays between."""
    schedule = ScheduleConfig(over="tokens", start=start, phases=tuple(listed))
    end, begin = 0.0, start
    for phase in listed:
        middle = learning_rate(schedule, tokens=end + phase.length / 2, progress=0.0)
        assert middle == pytest.approx((begin + phase.to) / 2, abs=1e-9)
        end, begin = end + phase.length, phase.to
        for tokens in (end * (1 - 1e-12), end * (1 + 1e-12)):
            assert learning_rate(schedule, tokens=tokens, progress=0.0) == pytest.approx(phase.to, abs=1e-6)
