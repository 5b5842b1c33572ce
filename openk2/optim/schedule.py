"""The learning rate as a pure function of where the run is (K2 §2.5)."""

from __future__ import annotations

import math

from openk2.optim.config import ScheduleConfig


def learning_rate(schedule: ScheduleConfig, *, tokens: float, progress: float, peak: float = 1.0) -> float:
    """The learning rate at a point of the run.

    ``tokens`` counts what was trained on, the step about to be taken included, so that the first step moves
    and step 500 of a 500-step warm-up has the peak. ``progress`` is the part of the stage that is done, in
    [0, 1], of whatever sets its length: steps, tokens or seconds. Which of the two counts is the schedule's
    choice (``schedule.over``). With ``peak`` 1 the result is the factor for ``MuonClip.scale_lr``.
    """
    position = tokens if schedule.over == "tokens" else progress
    begin = schedule.start
    for phase in schedule.phases:
        if position < phase.length:
            done = position / phase.length
            if phase.shape == "cosine":
                done = (1 - math.cos(math.pi * done)) / 2
            return peak * (begin + (phase.to - begin) * done)
        position -= phase.length
        begin = phase.to
    return peak * begin
