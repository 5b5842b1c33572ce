"""The tools of tau2-bench's mock domain: a list of tasks and the users they belong to."""

from __future__ import annotations

from typing import Literal

from openk2.schema import JSON
from openk2.worlds.neighbours.desk import tool, transfer_to_human_agents
from openk2.worlds.neighbours.records import Records
from openk2.worlds.tools import Refusal


@tool(writes=False)
def get_users(records: Records) -> JSON:
    """List all users with their tasks."""
    return {"users": records.find("users", {})}


@tool(writes=True)
def create_task(records: Records, user_id: str, title: str, description: str | None = None) -> JSON:
    """Create a pending task for an existing user. It must have a title."""
    user = records.get("users", user_id)
    if user is None:
        raise Refusal("user not found")
    if not title:
        raise Refusal("a task needs a title")
    task_id = f"task_{len(records.find('tasks', {})) + 1}"
    task = {"task_id": task_id, "title": title, "description": description, "status": "pending"}
    records.put("tasks", task_id, task)
    records.put("users", user_id, {**user, "tasks": [*user["tasks"], task_id]})
    return task


@tool(writes=True)
def update_task_status(records: Records, task_id: str, status: Literal["pending", "completed"]) -> JSON:
    """Set a task to pending or completed."""
    task = records.get("tasks", task_id)
    if task is None:
        raise Refusal("task not found")
    records.put("tasks", task_id, {**task, "status": status})
    return {**task, "status": status}


TOOLS = {each.spec.name: each for each in (get_users, create_task, update_task_status, transfer_to_human_agents)}
