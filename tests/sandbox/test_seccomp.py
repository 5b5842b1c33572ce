import re
import struct
from pathlib import Path

import pytest

from openk2.sandbox.seccomp import REFUSED, SPECIAL, program


def test_the_numbers_are_those_of_the_kernels_tables():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    generic = Path("/usr/include/asm-generic/unistd.h")  # aarch64 uses the generic table
    for which, (machine, table) in enumerate({"x86_64": header, "aarch64": generic}.items()):
        if not table.exists():
            pytest.skip(f"needs {table}: sudo apt install linux-libc-dev")
        numbers = {
            name: int(number) for name, number in re.findall(r"#define __NR3?2?_?(\w+)\s+(\d+)", table.read_text())
        }
        for name, pair in REFUSED.items():
            assert numbers.get(name, numbers.get(f"_{name}")) == pair[which], name
        for name, number in SPECIAL[machine].items():
            assert numbers.get(name, numbers.get(f"_{name}")) == number, name


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_path_through_the_program_ends_in_a_verdict(machine):
    code = program(machine)
    instructions = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    for at, (kind, if_true, if_false, _) in enumerate(instructions):
        if kind != 0x06:
            assert max(at + 1 + if_true, at + 1 + if_false) < len(instructions)
    assert instructions[-1][0] == 0x06


def test_an_unknown_machine_is_refused():
    with pytest.raises(ValueError, match="no system call filter for riscv64: there is one for x86_64 and aarch64"):
        program("riscv64")
