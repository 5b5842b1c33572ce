"""All kinds of generated problems, by topic."""

from __future__ import annotations

from openk2.gym.single_turn import Generator
from openk2.gym.stem import algebra, continuous, discrete, science

TOPICS: dict[str, dict[str, Generator]] = {
    "algebra": algebra.KINDS,
    "number theory": discrete.KINDS_OF_NUMBERS,
    "counting": discrete.KINDS_OF_CHANCE,
    "geometry": continuous.KINDS_OF_SHAPE,
    "calculus": continuous.KINDS_OF_CHANGE,
    "physics": science.KINDS_OF_PHYSICS,
    "chemistry": science.KINDS_OF_CHEMISTRY,
}
KINDS: dict[str, Generator] = {kind: generator for topic in TOPICS.values() for kind, generator in topic.items()}
TOPIC_OF: dict[str, str] = {kind: topic for topic, kinds in TOPICS.items() for kind in kinds}
