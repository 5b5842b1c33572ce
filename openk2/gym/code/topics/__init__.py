"""The kinds of problems by topic. In each kind the fast way and the plain way check each other (tests/gym/test_code.py)."""

from openk2.gym.code.problem import Kind
from openk2.gym.code.topics import dynamic, graphs, intervals, lists, numbers, parsing, simulation, strings

TOPICS: dict[str, tuple[Kind, ...]] = {
    "strings": strings.KINDS,
    "lists": lists.KINDS,
    "numbers": numbers.KINDS,
    "intervals": intervals.KINDS,
    "graphs": graphs.KINDS,
    "dynamic": dynamic.KINDS,
    "parsing": parsing.KINDS,
    "simulation": simulation.KINDS,
}
