"""A few tasks over real servers, written by hand: each with its own beginning, request, gold plan, answer and rubric.

``{folder}`` stands for the episode's folder in requests, plans and rubrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from openk2.schema import Rubric, RubricItem, Task

Step = tuple[str, dict[str, Any]]
SHOP = """CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL, quantity INTEGER NOT NULL, status TEXT NOT NULL);
INSERT INTO orders VALUES (1, 'lamp', 2, 'open'), (2, 'chair', 4, 'open'), (3, 'lamp', 5, 'shipped');"""
NOTES = {"commits": [["Begin", {"notes.txt": "one\n"}]], "files": {"notes.txt": "one\ntwo\n"}}


def make_tasks(now: datetime | None = None) -> list[Task]:
    """All tasks. ``now`` (with a zone) is the day that clocks are converted for; without it, today."""
    return [*_files(), *_git(), *_database(), *_time(now), *_memory(), *_everything(), _two_servers()]


def _files() -> list[Task]:
    files = "{folder}/files"
    return [
        _task(
            "filesystem", "create", {"filesystem": {"readme.txt": "hello\n"}},
            f"Create the file todo.txt in {files} with the text: buy milk",
            [("write_file", {"path": f"{files}/todo.txt", "content": "buy milk"})],
            _has("file", "todo.txt", text="buy milk"), _only(("file", "todo.txt"), ("folder", ".")),
        ),
        _task(
            "filesystem", "move", {"filesystem": {"report.txt": "42\n", "archive/old.txt": "1\n"}},
            f"Move {files}/report.txt into the folder archive.",
            [("move_file", {"source": f"{files}/report.txt", "destination": f"{files}/archive/report.txt"})],
            _has("file", "archive/report.txt", text="42\n"), _has("folder", ".", names=["archive"]),
            _only(("file", "report.txt"), ("file", "archive/report.txt"), ("folder", "."), ("folder", "archive")),
        ),
        _task(
            "filesystem", "edit", {"filesystem": {"config.ini": "[app]\nport = 80\nname = shop\n"}},
            f"In {files}/config.ini change the port to 8080.",
            [
                ("read_text_file", {"path": f"{files}/config.ini"}),
                ("edit_file", {"path": f"{files}/config.ini", "edits": [{"oldText": "port = 80", "newText": "port = 8080"}]}),
            ],
            _has("file", "config.ini", text="[app]\nport = 8080\nname = shop\n"), _only(("file", "config.ini")),
        ),
    ]  # fmt: skip


def _git() -> list[Task]:
    repository = {"repo_path": "{folder}/repository"}
    commit: list[Step] = [
        ("git_add", {**repository, "files": ["notes.txt"]}),
        ("git_commit", {**repository, "message": "Add two"}),
    ]  # fmt: skip
    return [
        _task(
            "git", "commit", {"git": NOTES},
            "Commit the change of notes.txt in {folder}/repository with the message: Add two",
            commit,
            _has("branch", "main", subject="Add two", num_commits=2),
            _has("committed", "main:notes.txt", text="one\ntwo\n"),
            _only(("branch", "main"), ("committed", "main:notes.txt")),
        ),
        _task(
            "git", "branch", {"git": NOTES},
            "In {folder}/repository, commit the change of notes.txt on a new branch called draft, with the message: Add two",
            [
                ("git_create_branch", {**repository, "branch_name": "draft"}),
                ("git_checkout", {**repository, "branch_name": "draft"}),
                *commit,
            ],
            _has("branch", "draft", subject="Add two", num_commits=2),
            _has("committed", "draft:notes.txt", text="one\ntwo\n"),
            _only(("branch", "draft"), ("committed", "draft:notes.txt"), ("head", "HEAD")),
        ),
    ]  # fmt: skip


def _database() -> list[Task]:
    insert = "INSERT INTO orders (id, item, quantity, status) VALUES (4, 'desk', 1, 'open')"
    return [
        _task(
            "sqlite", "insert", {"sqlite": SHOP},
            "Add order 4 to the table orders: 1 desk, status open.",
            [("describe_table", {"table_name": "orders"}), ("write_query", {"query": insert})],
            _has("orders", "4", item="desk", quantity=1, status="open"), _only(("orders", "4")),
        ),
        _task(
            "sqlite", "update", {"sqlite": SHOP},
            "Order 2 in the table orders has been shipped: set its status to shipped.",
            [("write_query", {"query": "UPDATE orders SET status = 'shipped' WHERE id = 2"})],
            _has("orders", "2", item="chair", status="shipped"), _only(("orders", "2")),
        ),
    ]  # fmt: skip


def _time(now: datetime | None) -> list[Task]:
    tasks = []
    for source, clock, target in (
        ("Asia/Tokyo", "14:30", "Asia/Kathmandu"), ("Europe/Berlin", "09:05", "America/New_York"),
    ):  # fmt: skip
        hour, minute = map(int, clock.split(":"))
        there = (now or datetime.now(ZoneInfo("UTC"))).astimezone(ZoneInfo(source)).replace(hour=hour, minute=minute)
        answer = f"{there.astimezone(ZoneInfo(target)):%H:%M}"
        arguments = {"source_timezone": source, "time": clock, "target_timezone": target}
        tasks.append(
            _task(
                "time",
                f"to_{target.partition('/')[2].lower()}",
                {"time": None},
                f"When it is {clock} in {source} today, what time is it in {target}? Answer as HH:MM.",
                [("convert_time", arguments)],
                _called("convert_time", arguments),
                _says(answer),
                answer=f"It is {answer} there.",
            )
        )
    return tasks


def _memory() -> list[Task]:
    ada = {"type": "entity", "name": "Ada", "entityType": "person", "observations": ["lives in Turin"]}
    new = {"name": "Bea", "entityType": "person", "observations": ["plays chess"]}
    return [
        _task(
            "memory", "relate", {"memory": [ada]},
            "Remember that there is a person called Bea who plays chess, and that Ada knows Bea.",
            [
                ("create_entities", {"entities": [new]}),
                ("create_relations", {"relations": [{"from": "Ada", "to": "Bea", "relationType": "knows"}]}),
            ],
            _has("entity", "Bea", **new), _has("relation", "Ada knows Bea", to="Bea"),
            _only(("entity", "Bea"), ("relation", "Ada knows Bea")),
        ),
        _task(
            "memory", "recall", {"memory": [ada]},
            "Where does Ada live?",
            [("open_nodes", {"names": ["Ada"]})],
            _says("Turin", grounded=True), _only(), answer="Ada lives in Turin.",
        ),
    ]  # fmt: skip


def _everything() -> list[Task]:
    return [
        _task(
            "everything", "sum", {"everything": None},
            "Add 1717 and 2525 with the tool get-sum.",
            [("get-sum", {"a": 1717, "b": 2525})],
            _called("get-sum", {"a": 1717, "b": 2525}), _says("4242", grounded=True), answer="The sum is 4242.",
        ),
    ]  # fmt: skip


def _two_servers() -> Task:
    query = "SELECT SUM(quantity) AS lamps FROM orders WHERE item = 'lamp'"
    return _task(
        "sqlite+filesystem", "report", {"sqlite": SHOP, "filesystem": {}},
        "How many lamps were ordered in all, by the table orders? Write the number alone into {folder}/files/lamps.txt.",
        [("read_query", {"query": query}), ("write_file", {"path": "{folder}/files/lamps.txt", "content": "7"})],
        _has("file", "lamps.txt", text="7"), _called("read_query", {}),
        _only(("file", "lamps.txt"), ("folder", ".")),
    )  # fmt: skip


def _task(
    family: str, kind: str, servers: Mapping[str, Any], request: str, plan: list[Step], *items: RubricItem, answer: str = ""
) -> Task:  # fmt: skip
    """``servers``: the beginning of each server's state, by the server's name."""
    payload = {
        "servers": dict(servers),
        "request": request,
        "plan": [{"tool": tool, "arguments": arguments} for tool, arguments in plan],
        "answer": answer,
    }
    return Task(f"mcp-{family}-{kind}", "mcp", kind, "heldout", payload, Rubric(items), tuple(family.split("+")))


def _has(entity: str, key: str, **fields: Any) -> RubricItem:
    return RubricItem(f"{entity} {key}", "state", {"entity": entity, "key": key, "has": fields})


def _only(*records: tuple[str, str]) -> RubricItem:
    return RubricItem("nothing else", "state", {"only": [list(record) for record in records]})


def _called(tool: str, arguments: dict[str, Any]) -> RubricItem:
    return RubricItem(f"calls {tool}", "call", {"tool": tool, "arguments": arguments})


def _says(value: str, *, grounded: bool = False) -> RubricItem:
    return RubricItem(f"says {value}", "fact", {"value": value, "grounded": grounded})
