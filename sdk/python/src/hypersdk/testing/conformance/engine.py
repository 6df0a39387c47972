"""Runs every check against a plugin at a path: static, protocol, methods, and the plugin's own suites."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from hypersdk.errors import InvalidArgument
from hypersdk.testing.conformance.checks import Outcome, Report, Status, judge, skipped
from hypersdk.testing.conformance.harness import PYTHON_HOST, TIMEOUT_S
from hypersdk.testing.conformance.methods import METHODS
from hypersdk.testing.conformance.project import Project, open_project
from hypersdk.testing.conformance.protocol import PROTOCOL
from hypersdk.testing.conformance.session import Subject
from hypersdk.testing.conformance.static import STATIC
from hypersdk.testing.conformance.suites import run_suites

PARTS = ("static", "protocol", "methods", "suites")


def run(
    path: Path,
    *,
    parts: Collection[str] = PARTS,
    kinds: Collection[str] = (),
    checks: Collection[str] = (),
    command: Sequence[str | Path] = (),
    patience_s: float = TIMEOUT_S,
    tell: Callable[[Outcome], None] = lambda _outcome: None,
) -> Report:
    """The report on the plugin at `path`. `tell` is called with each outcome as it comes.

    kinds     only components of these kinds (and what is not of a kind); all if empty
    checks    only these, by their ids; all if empty
    patience_s  seconds to start and to answer in
    command   starts its host; if empty, what its manifest says, or the Python host

    Raises what open_project raises, InvalidArgument (PLUGIN_KIND_UNKNOWN) for a kind that the plugin has not."""
    with open_project(path) as project:
        _choose(project, kinds)
        report = Report(project.distribution, project.version, str(path))
        known = {check.id for group in (STATIC, PROTOCOL, METHODS) for check in group.checks}
        if unknown := sorted(set(checks) - known):
            raise InvalidArgument(f"there is no check {', '.join(unknown)}", reason="CHECK_UNKNOWN")
        chosen = set(parts) - ({"suites"} if checks else set())
        for outcome in _outcomes(project, chosen, checks or known, command, patience_s):
            report.outcomes.append(outcome)
            tell(outcome)
        return report


def _outcomes(
    project: Project,
    parts: Collection[str],
    wanted: Collection[str],
    command: Sequence[str | Path],
    patience_s: float,
) -> Iterator[Outcome]:
    if "static" in parts:
        yield from (judge(check, project) for check in STATIC.checks if check.id in wanted)
    groups = [g for name, g in (("protocol", PROTOCOL), ("methods", METHODS)) if name in parts]
    starts = PROTOCOL.checks[0]
    dynamic = [c for group in groups for c in group.checks if c.id in wanted and c is not starts]
    if project.manifest is None or not project.entries:
        yield from skipped(dynamic, "without a sound manifest and entry points no host can be started")
    elif dynamic or (groups and starts.id in wanted):
        with Subject(project, command or project.host_command() or PYTHON_HOST, patience_s) as subject:
            first = judge(starts, subject)
            if starts.id in wanted or first.status is Status.FAILED:
                yield first
            if first.status is Status.FAILED:
                yield from skipped(dynamic, "the host does not start")
            else:
                yield from (judge(check, subject) for check in dynamic)
    if "suites" in parts:
        yield from run_suites(project)


def _choose(project: Project, kinds: Collection[str]) -> None:
    have = {component.partition("/")[0] for component in project.entries}
    unknown = sorted(set(kinds) - have)
    if unknown:
        raise InvalidArgument(
            f"the plugin has no component of kind {', '.join(unknown)}; it has {', '.join(sorted(have))}",
            reason="PLUGIN_KIND_UNKNOWN",
        )
    if kinds and project.manifest is not None:
        project.keep_kinds(kinds)
