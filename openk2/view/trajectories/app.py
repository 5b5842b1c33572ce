"""The page and what it asks for."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import Field
from starlette.responses import Response

from openk2.schema import JSON
from openk2.view import loopback
from openk2.view.loopback import Ascii, refusal
from openk2.view.trajectories.catalog import Catalog, Filters
from openk2.view.trajectories.story import story

PAGE = files(__package__).joinpath("page.html").read_text(encoding="utf-8")


class Listing(Filters):
    """A page of a list."""

    page: int = Field(0, ge=0)
    size: int = Field(50, ge=1, le=500)


class Opening(Filters):
    """One trajectory, within a list."""

    id: str


def application(catalog: Catalog, name: str, funnel: JSON | None) -> FastAPI:
    """The page over a catalog. ``funnel`` is what a ``funnel.json`` beside the files says."""
    app = loopback.application("openk2 trajectories", PAGE)
    overview = {"name": name, "count": len(catalog), "choices": catalog.choices(),
                "funnel": catalog.rejected() if funnel is None else funnel}  # fmt: skip

    @app.get("/api/overview")
    def overview_of_all() -> Response:
        return Ascii(overview)

    @app.get("/api/list")
    def listing(asked: Annotated[Listing, Query()]) -> Response:
        numbers = catalog.matching(_filters(asked))
        start = asked.page * asked.size
        rows = [catalog.row(number) for number in numbers[start : start + asked.size].tolist()]
        return Ascii({"summary": catalog.summary(numbers), "start": start, "rows": rows})

    @app.get("/api/trajectory")
    def trajectory(asked: Annotated[Opening, Query()]) -> Response:
        try:
            number = catalog.number(asked.id)
        except KeyError:
            return refusal(404, f"there is no trajectory {asked.id!r}")
        around = _neighbours(catalog, number, _filters(asked))
        return Ascii({"story": story(catalog.record(number)), **around})

    return app


def _filters(asked: Filters) -> Filters:
    """The filters alone: pages of one list share its entry in the catalog's cache."""
    return Filters.model_validate(asked.model_dump(include=set(Filters.model_fields)))


def _neighbours(catalog: Catalog, number: int, filters: Filters) -> JSON:
    """Where it is in the list, and what comes before and after; ``place`` is None outside the list."""
    numbers = catalog.matching(filters).tolist()
    if number not in numbers:
        return {"place": None, "count": len(numbers), "previous": None, "next": None}
    place = numbers.index(number)
    return {
        "place": place,
        "count": len(numbers),
        "previous": catalog.ids[numbers[place - 1]] if place else None,
        "next": catalog.ids[numbers[place + 1]] if place + 1 < len(numbers) else None,
    }
