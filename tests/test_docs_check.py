"""The documents' checker finds, marks, runs and fails blocks."""

import subprocess
from pathlib import Path

import pytest

from tests.docs_check import Block, blocks_of, check, run

PAGE = """# Page

```bash
echo made > file
```

```python
assert open("file").read() == "made\\n"
```

<!-- slow -->
```bash
false
```

<!-- norun: needs eight GPUs -->
```bash
false
```

```text
no program
```
"""


def test_blocks_carry_their_place_and_marks(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    found = [(block.line, block.language, block.slow, block.norun) for block in blocks_of(page)]
    expected = [(3, "bash", False, None), (7, "python", False, None), (12, "bash", True, None)]
    assert found == [*expected, (17, "bash", False, "needs eight GPUs")]


def test_a_page_runs_in_one_scratch_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "README.md").write_text(PAGE)
    assert check(tmp_path, everything=False) == 0
    assert check(tmp_path, everything=True) == 1
    out = capsys.readouterr().out
    assert "skipped  README.md:17  needs eight GPUs" in out
    assert "failed   README.md:12" in out
    assert not (tmp_path / "file").exists()


def test_a_block_that_hangs_is_ended_and_named(tmp_path: Path):
    block = Block(tmp_path / "p.md", 1, "bash", "sleep 60 & wait", slow=False, norun=None)
    assert run(block, tmp_path, limit=0.2) == "did not end within 0 s"


def test_norun_needs_a_reason(tmp_path: Path):
    (tmp_path / "p.md").write_text("<!-- norun -->\n```bash\ntrue\n```\n")
    with pytest.raises(ValueError, match=r"p\.md:2: norun needs a reason"):
        blocks_of(tmp_path / "p.md")
