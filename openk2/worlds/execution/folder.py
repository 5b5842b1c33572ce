"""Files: a folder of generated text, CSV and JSON to count, sort and correct."""

from __future__ import annotations

import json
from random import Random

from openk2.worlds.execution.exercise import Exercise, gone, has, only, says

TOWNS = ("Arlen", "Bruck", "Celle", "Dorne", "Elmau", "Forst")
GOODS = ("lamps", "chairs", "desks", "shelves", "clocks")


def write(rng: Random) -> Exercise:
    """A sum to write down, files to move, a value to correct, or a file to find."""
    files = {f"sales/{town.lower()}.csv": _sales(rng) for town in rng.sample(TOWNS, 4)}
    notes = {f"notes/{number:02d}.txt": f"Note {number} about {rng.choice(GOODS)}.\n" for number in range(1, 7)}
    config = {"site": rng.choice(TOWNS), "port": rng.randint(1000, 9000), "tax": rng.randint(5, 25)}
    files |= notes | {"config.json": json.dumps(config, indent=1) + "\n"}
    return rng.choice((_total, _archive, _correct, _find))(rng, files)


def _sales(rng: Random) -> str:
    return "item,sold\n" + "".join(f"{item},{rng.randint(1, 90)}\n" for item in GOODS)


def _total(rng: Random, files: dict[str, str]) -> Exercise:
    item = rng.choice(GOODS)
    lines = [line for path, text in files.items() if path.endswith(".csv") for line in text.splitlines()]
    total = sum(int(line.partition(",")[2]) for line in lines if line.startswith(f"{item},"))
    return Exercise(
        "total",
        f"How many {item} were sold in all, by the files in sales? Write the number alone into total.txt.",
        files,
        (("search", {"text": f"{item},"}), ("write_file", {"path": "total.txt", "text": f"{total}\n"})),
        (has("file", "total.txt", words=str(total)), only(("file", "total.txt"))),
    )


def _archive(rng: Random, files: dict[str, str]) -> Exercise:
    item = rng.choice([item for item in GOODS if any(f"about {item}" in text for text in files.values())])
    moved = [path for path, text in files.items() if f"about {item}" in text]
    places = {path: path.replace("notes/", "archive/") for path in moved}
    return Exercise(
        "archive",
        f"Move every note about {item} from the folder notes to the folder archive, under its own name.",
        files,
        (
            ("search", {"text": f"about {item}"}),
            *(("move_file", {"source": path, "target": target}) for path, target in places.items()),
        ),
        (
            *(item for path in moved for item in (gone("file", path), has("file", places[path], words=files[path].strip()))),
            only(*(("file", path) for pair in places.items() for path in pair)),
        ),
    )  # fmt: skip


def _correct(rng: Random, files: dict[str, str]) -> Exercise:
    port = rng.randint(9001, 9999)
    text = json.dumps(json.loads(files["config.json"]) | {"port": port}, indent=1) + "\n"
    return Exercise(
        "correct",
        f"In config.json set the port to {port} and leave everything else, the layout too.",
        files,
        (("read_file", {"path": "config.json"}), ("write_file", {"path": "config.json", "text": text})),
        (has("file", "config.json", words=text.strip()), only(("file", "config.json"))),
    )


def _find(rng: Random, files: dict[str, str]) -> Exercise:
    path = rng.choice([path for path in files if path.startswith("notes/")])
    code = f"K-{rng.randint(1000, 9999)}"
    return Exercise(
        "find",
        f"Which file mentions {code}? Name its path.",
        files | {path: files[path] + f"See {code}.\n"},
        (("search", {"text": code}),),
        (says(path), only()),
        answer=f"It is in {path}.",
    )
