from itertools import islice

from openk2.worlds.config import WorldsConfig
from openk2.worlds.documents import documents
from openk2.worlds.domains import APPS
from openk2.worlds.tasks import Split

CONFIG = WorldsConfig()


def test_documents_are_many_and_the_same_every_time():
    texts = list(documents(CONFIG, 150))
    assert texts == list(documents(CONFIG, 150))
    assert len(set(texts)) == 150
    assert all(100 < len(text) < 4000 for text in texts)


def test_they_show_no_request_and_nothing_held_out():
    texts = "\n".join(documents(CONFIG, 300))
    for task in islice(Split(CONFIG, "train"), 100):
        assert task.payload["request"] not in texts
    for name in (*CONFIG.undemonstrated, *CONFIG.unseen):
        for tool in APPS[name].tools:
            assert tool.name not in texts
    for split in ("heldout", "unseen_domain"):
        emails = [
            value
            for task in Split(CONFIG, split)[:200]
            for rows in task.payload["rows"].values()
            for row in rows
            for value in row.values()
            if "@" in str(value)
        ]
        assert not any(email in texts for email in emails)
