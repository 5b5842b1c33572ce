"""Apps from their identity: the contract that any author keeps, and the scripted one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

from openk2.worlds.evolve.config import EvolveConfig
from openk2.worlds.evolve.entities import draw_nouns
from openk2.worlds.evolve.lexicon import categories, find_category
from openk2.worlds.evolve.operations import draw_tools
from openk2.worlds.evolve.wording import Wording
from openk2.worlds.spec import App, check


@dataclass(frozen=True, slots=True)
class AppId:
    """Who an app is: its category and its application's name."""

    category: str
    application: str


class Author(Protocol):
    """Writes apps. A scripted one draws them; a language model may write them too."""

    def author(self, app_id: AppId) -> App:
        """A checked, strict app, always the same for the same identity. Raises ValueError where none can be made."""
        ...


class ScriptedAuthor:
    """Draws apps from the lexicon, by seed. It shows structure and breadth, not a language model's invention."""

    def __init__(self, config: EvolveConfig) -> None:
        self._config = config

    def author(self, app_id: AppId) -> App:
        """The app of this identity."""
        category = find_category(app_id.category)
        rng = Random(f"{self._config.seed}/{app_id.category}/{app_id.application}")
        nouns = draw_nouns(category, self._config.num_entities, rng)
        tools = draw_tools(nouns, Wording(app_id.application, rng), rng)
        app = App(app_id.application, tuple(noun.entity for noun in nouns), tools, strict=True)
        check(app)
        return app


def app_ids(config: EvolveConfig) -> Iterator[AppId]:
    """The identities that the config asks for, category by category."""
    for name in config.categories or tuple(categories()):
        for application in find_category(name).applications[: config.num_applications]:
            yield AppId(name, application)


def evolve(config: EvolveConfig, author: Author | None = None) -> Iterator[App]:
    """The apps of ``app_ids(config)`` one by one, by the scripted author where no other is given."""
    author = author or ScriptedAuthor(config)
    return (author.author(app_id) for app_id in app_ids(config))
