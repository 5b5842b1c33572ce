from dataclasses import replace

import pytest

pytest.importorskip("mcp", reason="needs the MCP SDK: pip install 'openk2[mcp]'")

from openk2.worlds.mcp.servers import MARKER, SERVERS, install, is_installed


def test_a_command_is_filled_with_the_folder(tmp_path):
    known = SERVERS["memory"]
    (tmp_path / "cache" / "memory").mkdir(parents=True)
    (tmp_path / "cache" / "memory" / MARKER).write_text(f'{{"packages": ["{known.packages[0]}"]}}')
    command = known.command(tmp_path / "episode", tmp_path / "cache")
    assert command.argv == (str(tmp_path / "cache/memory/node_modules/.bin/mcp-server-memory"),)
    assert command.variables == {"MEMORY_FILE_PATH": str(tmp_path / "episode/memory.jsonl")}
    assert not is_installed(replace(known, packages=("another==2",)), tmp_path / "cache")


@pytest.mark.slow
def test_an_install_that_fails_is_named_and_leaves_nothing_that_counts(tmp_path):
    broken = replace(SERVERS["time"], packages=("./no-such-wheel.whl",))
    with pytest.raises(RuntimeError, match=r"no-such-wheel.whl.* failed: "):
        install(broken, tmp_path)
    assert not is_installed(broken, tmp_path)
