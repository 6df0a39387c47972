"""The seccomp filter, run by a small machine of our own: which calls pass on either architecture."""

import struct

import pytest
from hypersdk.wire import seccomp
from hypothesis import given
from hypothesis import strategies as st

ALLOW, EPERM, EACCES, ENOSYS = 0x7FFF0000, 0x00050001, 0x0005000D, 0x00050026
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NR = {
    "x86_64": {"read": 0, "clone": 56, "fork": 57, "socket": 41, "kill": 62, "tkill": 200, "ptrace": 101, "mount": 165},
    "aarch64": {"read": 63, "clone": 220, "socket": 198, "kill": 129, "tkill": 130, "ptrace": 117, "mount": 40},
}
THREAD, NEWNS, NEWUSER = 0x003D0F00, 0x00020000, 0x10000000
machines = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def run(program, nr, arch, *args):
    """What classic BPF makes of one call (struct seccomp_data)."""
    data = struct.pack("<IIQ6Q", nr, arch, 0, *args, *[0] * (6 - len(args)))
    at = accumulator = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        match code:
            case 0x20:
                [accumulator] = struct.unpack_from("<I", data, k)
            case 0x15:
                at += yes if accumulator == k else no
            case 0x35:
                at += yes if accumulator >= k else no
            case 0x45:
                at += yes if accumulator & k else no
            case 0x06:
                return k
            case _:
                raise AssertionError(code)


def verdict(machine, call, *args, **policy):
    policy = {"processes": False, "families": []} | policy
    return run(seccomp.program(machine, **policy), NR[machine][call], ARCH[machine], *args)


@machines
def test_what_every_program_does_passes_and_what_reaches_into_others_does_not(machine):
    assert verdict(machine, "read", 0, 0, 0) == ALLOW
    assert {verdict(machine, call, processes=True, families=None) for call in ("ptrace", "mount")} == {EPERM}


@machines
def test_threads_are_started_always_programs_when_allowed_namespaces_never(machine):
    assert verdict(machine, "clone", THREAD) == ALLOW
    assert verdict(machine, "clone", 17) == EPERM
    assert verdict(machine, "clone", 17, processes=True) == ALLOW
    for flags in (NEWNS | 17, NEWUSER | 17, THREAD | NEWNS):
        assert verdict(machine, "clone", flags) == EPERM
        assert verdict(machine, "clone", flags, processes=True) == EPERM
    clone3 = 435
    assert run(seccomp.program(machine, processes=True, families=None), clone3, ARCH[machine]) == ENOSYS


@machines
@pytest.mark.parametrize("families", [[], [1], [2, 10, 16], [1, 2, 10, 16]])
def test_sockets_are_of_the_families_that_were_granted(machine, families):
    for family in range(50):
        wanted = ALLOW if family in families else EACCES
        assert verdict(machine, "socket", family, 1, 0, families=families) == wanted
    assert verdict(machine, "socket", 1, 1, 0, families=None) == ALLOW


@machines
def test_signals_go_to_itself_only_where_that_is_wanted(machine):
    assert verdict(machine, "kill", 77, 9, signals_of=77) == ALLOW
    assert verdict(machine, "kill", 1, 9, signals_of=77) == EPERM
    assert verdict(machine, "tkill", 77, 9, signals_of=77) == EPERM
    assert verdict(machine, "kill", 1, 9) == ALLOW


def test_calls_of_another_architecture_and_of_the_second_table_fail():
    program = seccomp.program("x86_64", processes=True, families=None)
    assert run(program, 0, 0x40000003) == EPERM
    assert run(program, 0x40000000, ARCH["x86_64"]) == EPERM
    with pytest.raises(KeyError):
        seccomp.program("riscv64", processes=True, families=None)


@machines
@given(
    nr=st.integers(0, 2**32 - 1), first=st.integers(0, 2**64 - 1), processes=st.booleans(),
    families=st.none() | st.lists(st.integers(0, 45), max_size=5, unique=True), signals_of=st.integers(0, 2**22),
)  # fmt: skip
def test_every_call_has_a_verdict(machine, nr, first, processes, families, signals_of):
    program = seccomp.program(machine, processes=processes, families=families, signals_of=signals_of)
    assert len(program) < 4096
    assert run(program, nr, ARCH[machine], first) in {ALLOW, EPERM, EACCES, ENOSYS}
