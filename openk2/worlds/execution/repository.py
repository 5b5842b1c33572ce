"""Git: a real repository in the box, to search, revert, branch and merge; judged by git's plumbing."""

from __future__ import annotations

import hashlib
import shlex
from random import Random

from openk2.worlds.execution.exercise import Exercise, has, only, says

TOPICS = ("parser", "cache", "index", "router", "queue", "ledger", "mailer")


def blob(text: str) -> str:
    """The name git gives to a file's content."""
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def write(rng: Random) -> Exercise:
    """A history of small commits, and something to do with it."""
    topics = rng.sample(TOPICS, 5)
    commits = [(topic, f"{topic}.txt", f"{topic} {rng.randint(100, 999)}\n") for topic in topics]
    setup = [
        "git init --quiet --initial-branch=main",
        *(_commit(f"Add {topic}", path, text) for topic, path, text in commits),
    ]
    kind = rng.choice((_find, _revert, _branch, _merge))
    return kind(rng, setup, commits)


Commits = list[tuple[str, str, str]]


def _find(rng: Random, setup: list[str], commits: Commits) -> Exercise:
    topic, path, _ = rng.choice(commits)
    code = f"z{rng.randint(1000, 9999)}"
    subject = f"Tune {topic} for {rng.choice(TOPICS)}"
    script = [*setup, _commit(subject, path, f"{code}\n"), _commit("Tidy up", path, "tidy\n")]
    return Exercise(
        "find",
        f"Which commit of this repository brought in the word {code}? Name its subject line.",
        {}, (("run", {"command": f"git log -S{code} --format=%s --reverse"}),), (says(subject), only()),
        answer=f'The commit "{subject}".', setup="\n".join(script),
    )  # fmt: skip


def _revert(rng: Random, setup: list[str], commits: Commits) -> Exercise:
    topic, path, text = rng.choice(commits)
    subject = f"Rework {topic}"
    script = [*setup, _commit(subject, path, "broken\n"), _commit("Say hello", "hello.txt", "hello\n")]
    find = f"git log --format=%h --grep={shlex.quote(subject)}"
    return Exercise(
        "revert",
        f'The commit "{subject}" was a mistake. Revert it with a new commit on main.',
        {}, (("run", {"command": f"git revert --no-edit $({find})"}),),
        (
            has("branch", "main", num_commits=len(commits) + 3), has("committed", f"main:{path}", blob=blob(text)),
            only(("branch", "main"), ("committed", f"main:{path}"), ("file", path)),
        ),
        setup="\n".join(script),
    )  # fmt: skip


def _branch(rng: Random, setup: list[str], commits: Commits) -> Exercise:
    place = rng.randrange(1, len(commits) - 1)
    name = f"from-{commits[place][0]}"
    find = f"git log --format=%h --grep='Add {commits[place][0]}'"
    kept = [("committed", f"{name}:{path}") for _, path, _ in commits[: place + 1]]
    return Exercise(
        "branch",
        f'Make a branch called {name} at the commit "Add {commits[place][0]}", and stay on main.',
        {}, (("run", {"command": f"git branch {name} $({find})"}),),
        (
            has("branch", name, subject=f"Add {commits[place][0]}", num_commits=place + 1),
            only(("branch", name), *kept),
        ),
        setup="\n".join(setup),
    )  # fmt: skip


def _merge(rng: Random, setup: list[str], commits: Commits) -> Exercise:
    topic, path, _ = rng.choice(commits)
    ours, theirs = f"ours {rng.randint(100, 999)}\n", f"theirs {rng.randint(100, 999)}\n"
    script = [
        *setup, "git checkout --quiet -b draft", _commit(f"Draft {topic}", path, theirs),
        "git checkout --quiet main", _commit(f"Change {topic}", path, ours),
    ]  # fmt: skip
    return Exercise(
        "resolve",
        f"Merge the branch draft into main. Where {path} conflicts, keep main's line first and draft's line below it, and no more.",
        {},
        (
            ("run", {"command": "git merge draft"}),
            ("write_file", {"path": path, "text": ours + theirs}),
            ("run", {"command": "git commit --quiet --all --message 'Merge draft'"}),
        ),
        (
            has("branch", "main", num_parents=2), has("committed", f"main:{path}", blob=blob(ours + theirs)),
            only(("branch", "main"), ("committed", f"main:{path}"), ("file", path)),
        ),
        setup="\n".join(script),
    )  # fmt: skip


def _commit(subject: str, path: str, text: str) -> str:
    message = shlex.quote(subject)
    return f"printf %s {shlex.quote(text)} > {path} && git add --all && git commit --quiet --message {message}"
