"""Exit codes and how errors look."""

import io

import pytest
from hyperctl import exits
from hyperctl.failures import guarded, next_command, report
from hypersdk import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("InvalidArgument", 2), ("FailedPrecondition", 6), ("Unsupported", 1), ("OutOfRange", 1), ("NotFound", 5),
        ("AlreadyExists", 6), ("Aborted", 6), ("PermissionDenied", 4), ("Unauthenticated", 4), ("ResourceExhausted", 1),
        ("Unavailable", 7), ("DeadlineExceeded", 7), ("Cancelled", 1), ("DataLoss", 1), ("MalformedImage", 1),
        ("Internal", 1),
    ],
)  # fmt: skip
def test_every_error_has_its_exit_code(kind, code):
    assert exits.code_for(errors.KINDS[kind]("x")) == code


def test_every_kind_of_the_tree_is_covered_above():
    (mark,) = test_every_error_has_its_exit_code.pytestmark
    assert {kind for kind, _ in mark.args[1]} == set(errors.KINDS)


def test_an_error_says_what_why_next_reason_and_request():
    out = io.StringIO()
    error = errors.NotFound("there is no jobs/x", reason="JOB_NOT_FOUND", metadata={"request_id": "r-1"})
    assert report(error, "job get", out) == 5
    assert out.getvalue() == (
        "hyperctl: there is no jobs/x\n  next: hyperctl job list\n  reason: JOB_NOT_FOUND, request r-1\n"
    )


def test_field_violations_are_listed():
    out = io.StringIO()
    violations = (errors.FieldViolation("spec.format", "no such format"),)
    report(errors.InvalidArgument("the spec is wrong", violations=violations), "export", out)
    assert "\n  spec.format: no such format\n  next: hyperctl export --help\n" in out.getvalue()


def test_control_characters_of_foreign_names_do_not_reach_the_terminal():
    out = io.StringIO()
    report(errors.NotFound("no \x1b[2Jfile"), "", out)
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("error", "command", "expected"),
    [
        (errors.Unavailable("x", reason="DAEMON_UNREACHABLE"), "job list", "hypersdkd"),
        (errors.HyperError("x", metadata={"job": "jobs/a"}), "export", "hyperctl job logs jobs/a"),
        (errors.Cancelled("x", metadata={"job": "jobs/a"}), "export", "hyperctl job retry jobs/a"),
        (errors.Unauthenticated("x"), "job list", "hyperctl config view --show-origin"),
        (errors.PermissionDenied("x"), "image info", ""),
        (errors.NotFound("x"), "machine get", "hyperctl machine list"),
    ],
)
def test_the_next_command_fits_the_error(error, command, expected):
    assert next_command(error, command) == expected


def _raiser(exc):
    def run():
        raise exc

    return run


def test_ctrl_c_is_130_and_system_errors_are_translated(capsys):
    assert guarded(_raiser(KeyboardInterrupt()), "") == 130
    assert guarded(_raiser(FileNotFoundError(2, "No such file", "x")), "") == 5
    assert "FILE_NOT_FOUND" in capsys.readouterr().err
