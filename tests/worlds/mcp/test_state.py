import sqlite3
from contextlib import closing

import pytest

from openk2.worlds.mcp.state import MAX_TEXT, Database, Files, Graph, Repository


def test_files_show_text_links_and_folders(tmp_path):
    files = Files(tmp_path)
    files.lay_out({"a.txt": "one\n", "deep/er/b.txt": "two"})
    (files.path / "raw").write_bytes(b"\xff\x00")
    (files.path / "large").write_bytes(b"x" * (MAX_TEXT + 1))
    (files.path / "out").symlink_to("/etc")
    rows = files.rows()
    assert rows["file"]["a.txt"]["text"] == "one\n"
    assert rows["file"]["deep/er/b.txt"]["text"] == "two"
    assert rows["file"]["raw"]["text"].startswith("sha256 ")
    assert rows["file"]["large"]["text"].startswith("sha256 ")
    assert rows["file"]["out"]["text"] == "link to /etc"
    assert rows["folder"]["."]["names"] == ["a.txt", "deep", "large", "out", "raw"]
    assert not any(key.startswith("out/") for key in rows["file"])


def test_a_repository_shows_branches_commits_and_what_is_staged(tmp_path):
    repository = Repository(tmp_path)
    repository.lay_out({"commits": [["One", {"a": "1"}], ["Two", {"a": "2", "b c": "é"}]], "files": {"a": "3"}})
    repository._git("branch", "side", "main~1")
    repository._git("add", "a")
    assert repository.rows() == {
        "branch": {
            "main": {"branch": "main", "subject": "Two", "num_commits": 2},
            "side": {"branch": "side", "subject": "One", "num_commits": 1},
        },
        "committed": {
            "main:a": {"key": "main:a", "text": "2"},
            "main:b c": {"key": "main:b c", "text": "é"},
            "side:a": {"key": "side:a", "text": "1"},
        },
        "head": {"HEAD": {"key": "HEAD", "branch": "main"}},
        "staged": {"a": {"path": "a"}},
    }
    repository._git("checkout", "--quiet", "--detach")
    assert repository.rows()["head"]["HEAD"]["branch"] == ""


def test_a_repository_runs_no_program_of_the_one_who_wrote_it(tmp_path):
    repository = Repository(tmp_path)
    repository.lay_out({"commits": [["One", {"a": "1"}]]})
    repository._git("config", "core.fsmonitor", f"touch {tmp_path}/ran; false")
    repository._git("config", "diff.external", f"touch {tmp_path}/ran; false")
    (repository.path / "a").write_text("2")
    repository._git("add", "a")
    repository.rows()
    assert not (tmp_path / "ran").exists()


def test_a_database_is_read_beside_a_writer(tmp_path):
    database = Database(tmp_path)
    database.lay_out('CREATE TABLE "od""d" (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO "od""d" VALUES (1, \'x\');')
    with closing(sqlite3.connect(database.path)) as other:
        other.execute("CREATE TABLE more (k TEXT)")
        other.execute("BEGIN IMMEDIATE")
        assert database.rows() == {'od"d': {"1": {"id": 1, "name": "x"}}, "more": {}}


def test_a_graph_shows_entities_and_relations(tmp_path):
    graph = Graph(tmp_path)
    ada = {"type": "entity", "name": "Ada", "entityType": "person", "observations": []}
    knows = {"type": "relation", "from": "Ada", "to": "Bea", "relationType": "knows"}
    graph.lay_out([ada, knows])
    assert graph.rows() == {"entity": {"Ada": ada}, "relation": {"Ada knows Bea": {"key": "Ada knows Bea", **knows}}}
    graph.path.write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        graph.rows()
