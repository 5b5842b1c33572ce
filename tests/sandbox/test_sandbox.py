import asyncio
import subprocess
import tarfile

import pytest

from openk2.sandbox import cell as cell_file
from openk2.sandbox.cgroup import hierarchy
from openk2.sandbox.config import Fittings, Limits
from openk2.sandbox.enclosure import SandboxError, enclosure
from openk2.sandbox.pool import Pool
from openk2.sandbox.sandbox import Sandbox


def test_a_program_reads_its_files_and_stdin_and_leaves_files(python):
    box = Sandbox()
    box.write("data/in.txt", b"6")
    result = python(
        "import os\nn = int(open('data/in.txt').read()) * int(input())\nopen('out.txt', 'w').write(str(n))\n"
        "print('said', os.environ['WORD'])",
        box=box, stdin=b"7\n", env={"WORD": "a 'quoted' word"},
    )  # fmt: skip
    assert (result.outcome, result.exit_code, result.stdout) == ("ok", 0, b"said a 'quoted' word\n")
    assert box.read("out.txt") == b"42"
    assert set(box.files()) == {"data/in.txt", "out.txt", "program.py"}
    assert result.cpu_s < 2
    assert result.cpu_s > 0 or enclosure().groups is None  # without groups only those still alive are counted
    assert result.wall_s < 4


def test_files_last_from_run_to_run_links_and_modes_included():
    box = Sandbox()
    box.write("tool.sh", b"#!/bin/sh\necho one\n")

    async def main():
        await box.run(["sh", "-c", "chmod +x tool.sh && ln -s tool.sh link && mkdir empty"])
        box.write("tool.sh", b"#!/bin/sh\necho two\n")
        await box.run(["sh", "-c", "chmod +x tool.sh && rm -f gone"])
        return await box.run(["sh", "-c", "./link && ls -d empty"])

    result = asyncio.run(main())
    assert result.stdout == b"two\nempty\n"
    assert list(box.files()) == ["tool.sh"]  # the link is there, but no file
    with pytest.raises(FileNotFoundError, match="no file nothing"):
        box.read("nothing")


def test_a_copy_goes_its_own_way():
    box = Sandbox()
    box.write("a", b"1")
    copy = Sandbox(archive=box.archive)
    asyncio.run(copy.run(["rm", "a"]))
    assert (box.files(), copy.files()) == ({"a": b"1"}, {})


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ""])
def test_writing_outside_the_work_folder_is_refused(path):
    with pytest.raises(ValueError, match="no path within the work folder"):
        Sandbox().write(path, b"")


def test_how_programs_end():
    def run(*argv):
        return asyncio.run(Sandbox().run(argv))

    assert (run("sh", "-c", "exit 3").outcome, run("sh", "-c", "exit 3").exit_code) == ("failed", 3)
    missing = run("no-such-program")
    assert (missing.outcome, missing.exit_code) == ("failed", 127)
    assert b"not found" in missing.stderr
    assert run("sh", "-c", "kill -SEGV $$").exit_code == 128 + 11
    # What looks like the word that ends a run is just output.
    odd = run("printf", r"a\0777")
    assert odd.stdout == b"a\x00777" or odd.stdout.startswith(b"a")
    assert odd.outcome == "ok"
    fake = run("sh", "-c", r"printf '\0000' >&2; exit 5")
    assert (fake.exit_code, fake.stderr) == (5, b"\x000")


def test_an_archive_made_by_somebody_else_is_an_error_not_a_crash():
    good = Sandbox()
    good.write("a", b"x" * 2000)
    with pytest.raises(SandboxError, match="no readable archive"):
        Sandbox(archive=good.archive[:1500]).files()
    assert Sandbox(archive=b"junk" * 1000).files() == {}
    huge = tarfile.TarInfo("work/huge")
    huge.size = 1 << 50
    with pytest.raises(SandboxError, match="more than the box can hold"):
        Sandbox(archive=huge.tobuf() + bytes(512)).files()


def test_a_pool_gives_each_cell_once():
    async def main():
        async with Pool(3) as pool:
            boxes = [Sandbox(pool=pool) for _ in range(8)]
            for number, box in enumerate(boxes):
                box.write("n", str(number).encode())
            results = await asyncio.gather(
                *(box.run(["sh", "-c", "cat n; ls /box/tmp; echo > /box/tmp/mark"]) for box in boxes)
            )
            assert [result.stdout for result in results] == [str(number).encode() for number in range(8)]

    asyncio.run(main())


def test_without_bubblewrap_there_is_a_refusal_that_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    enclosure.cache_clear()
    try:
        with pytest.raises(SandboxError, match="bubblewrap is not installed: sudo apt install bubblewrap"):
            asyncio.run(Sandbox().run(["true"]))

        async def pooled():
            async with Pool(1) as pool:
                await Sandbox(pool=pool).run(["true"])

        with pytest.raises(SandboxError, match="bubblewrap is not installed"):
            asyncio.run(pooled())
    finally:
        enclosure.cache_clear()


def test_a_bwrap_that_fails_is_told_by_its_own_words(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: no permission to make namespaces' >&2\nexit 1\n")
    broken.chmod(0o755)
    tmp_path.chmod(0o755)
    host = enclosure()
    monkeypatch.setattr(cell_file, "enclosure", lambda: type(host)(str(broken), False, host.groups))
    with pytest.raises(SandboxError, match="bwrap does not start: bwrap: no permission to make namespaces"):
        asyncio.run(Sandbox().run(["true"]))


def test_limits_that_make_no_sense_are_refused():
    for wrong in ({"cpu_s": 0}, {"memory_bytes": 1000}, {"processes": 0}, {"cpu": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Limits(**wrong)


def test_every_limit_is_said_to_hold_by_something():
    holds = enclosure().holds()
    assert set(holds) == set(Limits.model_fields)
    assert all(holds.values())


def test_groups_that_a_killed_process_left_behind_are_removed():
    groups = enclosure().groups
    if groups is None:
        pytest.skip("no control group can be made here")
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = [folder / f"openk2-{dead.pid}-0" for folder in set(groups.folders.values())]
    for folder in left:
        folder.mkdir()
    hierarchy.cache_clear()
    hierarchy()
    assert not any(folder.exists() for folder in left)


def test_folders_of_the_work_folder_can_be_linked_from_the_root():
    box = Sandbox(fittings=Fittings(links=("app", "data")))
    box.write("app/said", b"hi")
    result = asyncio.run(box.run(["sh", "-c", "cat /app/said; echo new > /app/kept; mkdir /other"]))
    assert (result.stdout, box.read("app/kept")) == (b"hi", b"new\n")
    assert b"Read-only" in result.stderr
