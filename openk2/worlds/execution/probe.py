"""The state of a box as rows for the judge, read from a fresh copy of its files when nothing of the episode runs.

Hidden cases: their inputs enter the copy, their outputs stay out here, so a program cannot tell that it is judged by forging a
verdict; it has to compute the outputs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from openk2.sandbox.cases import call
from openk2.sandbox.sandbox import Sandbox
from openk2.worlds.state import Rows

# A repository's own settings and hooks are programs of whoever wrote it.
GIT = "git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.pager=cat -c log.showSignature=false"
PLUMBING = f"""
rm -f .git/info/attributes
echo head - $({GIT} symbolic-ref --short HEAD)
{GIT} for-each-ref --format='%(refname:short)' refs/heads | while read -r branch; do
  echo branch $branch $({GIT} rev-list --count $branch) $({GIT} rev-list --parents -1 $branch | wc -w) $({GIT} rev-parse $branch) $({GIT} log -1 --format=%s $branch)
  {GIT} ls-tree -r --format='committed %(objectname) '$branch':%(path)' $branch
done
"""  # fmt: skip
TABLES = """
import json, sqlite3
database = sqlite3.connect('file:data.db?mode=ro', uri=True)
database.row_factory = sqlite3.Row
names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
print(json.dumps({name: [dict(row) for row in database.execute(f'SELECT * FROM "{name}"')] for name in names}))
"""


async def rows_of(payload: Mapping[str, Any], copy: Sandbox) -> Rows:
    """Files for every family (``words`` is the text, stripped), and what the family is about. ``copy`` is used up."""
    rows: Rows = {"file": {}}
    for path, content in copy.files().items():
        if not path.startswith(".git/") and not (payload["family"] == "database" and path.startswith("data.db")):
            rows["file"][path] = {"path": path, "words": content.decode(errors="replace").strip()}
    match payload["family"]:
        case "python":
            rows["tests"] = {"hidden": {"key": "hidden", "failed": await _num_failed(payload, copy)}}
        case "repository":
            rows |= await _repository(copy)
        case "database":
            rows |= await _tables(copy)
    return rows


async def _num_failed(payload: Mapping[str, Any], copy: Sandbox) -> int:
    source = copy.files().get("solution.py", b"").decode(errors="replace")
    function = re.search(r"^def (\w+)", source, re.M)
    if function is None:
        return len(payload["outputs"])
    ran = await call(copy, source, function[1], [[given] for given in payload["inputs"]])
    pairs = zip(ran, payload["outputs"], strict=True)
    return sum(not (one.ending == "value" and one.value == output) for one, output in pairs)


async def _repository(copy: Sandbox) -> Rows:
    rows: Rows = {"branch": {}, "committed": {}, "head": {}}
    result = await copy.run(["sh", "-c", PLUMBING], env={"GIT_CONFIG_NOSYSTEM": "1"})
    for line in result.stdout.decode(errors="replace").splitlines():
        kind, name, rest = [*line.split(" ", 2), ""][:3]
        if kind == "branch":
            count, words, commit, *subject = rest.split(" ")
            rows["branch"][name] = {
                "branch": name, "num_commits": int(count), "num_parents": int(words) - 1, "commit": commit,
                "subject": " ".join(subject),
            }  # fmt: skip
        elif kind == "committed":
            rows["committed"][rest] = {"key": rest, "blob": name}
        else:
            rows["head"]["HEAD"] = {"key": "HEAD", "branch": rest}
    return rows


async def _tables(copy: Sandbox) -> Rows:
    result = await copy.run(["python3", "-c", TABLES])
    try:
        tables = json.loads(result.stdout)
        return {name: {str(next(iter(row.values()))): row for row in rows} for name, rows in tables.items()}
    except (ValueError, AttributeError, StopIteration):
        return {}  # no database is left: every record is missing
