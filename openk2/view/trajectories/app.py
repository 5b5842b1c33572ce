"""The page and what it asks for."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from openk2.schema import JSON
from openk2.view.trajectories.catalog import Catalog, Filters
from openk2.view.trajectories.story import story

PAGE = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
# The page is one file and talks to its own server alone.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"


class Listing(Filters):
    """A page of a list."""

    page: int = Field(0, ge=0)
    size: int = Field(50, ge=1, le=500)


class Opening(Filters):
    """One trajectory, within a list."""

    id: str


class Ascii(JSONResponse):
    """JSON in ASCII: a trajectory may hold half a surrogate pair, which UTF-8 cannot."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def application(catalog: Catalog, name: str, funnel: JSON | None) -> FastAPI:
    """The page over a catalog. ``funnel`` is what a ``funnel.json`` beside the files says."""
    app = FastAPI(title="openk2 trajectories", docs_url=None, redoc_url=None, openapi_url=None)
    # A web page elsewhere can bind a name of its own to this machine, but not make a browser send another's.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    _say_errors(app)
    overview = {"name": name, "count": len(catalog), "choices": catalog.choices(),
                "funnel": catalog.rejected() if funnel is None else funnel}  # fmt: skip

    @app.get("/")
    def page() -> Response:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": _POLICY})

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
            return _refusal(404, f"there is no trajectory {asked.id!r}")
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


def _say_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _refusal(400, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(TimeoutError)
    def too_slow(_: Request, error: TimeoutError) -> Response:
        return _refusal(504, str(error))

    @app.exception_handler(ValueError)
    def changed(_: Request, error: ValueError) -> Response:
        return _refusal(409, str(error))


def _refusal(status: int, message: str) -> Response:
    return Ascii({"error": message}, status)
