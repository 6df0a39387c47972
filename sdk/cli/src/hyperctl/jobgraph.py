"""A job group as a graph in text, and in Graphviz's language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperctl.messages import enum_name
from hyperctl.waiting import state_of

if TYPE_CHECKING:
    from hypersdk.api.jobs.v1.job_groups_pb2 import JobGroup, JobGroupMember, MemberDependency


def text_graph(group: JobGroup) -> list[str]:
    """A line a member, below what it waits for, indented by how far down it is; each member once."""
    members = {member.key: member for member in group.members}
    depths: dict[str, int] = {}
    order: list[str] = []
    left = dict(members)
    while left:
        ready = [key for key, m in left.items() if not any(edge.key in left for edge in m.after)]
        for key in ready or list(left):  # a circle cannot have been stored; show all the same what there is
            after = [depths[edge.key] for edge in members[key].after if edge.key in depths]
            depths[key] = max(after, default=-1) + 1
            order.append(key)
            del left[key]
    return [_line(members[key], depths[key]) for key in order]


def dot_graph(group: JobGroup) -> list[str]:
    """For `dot -Tsvg`."""
    lines = [f"digraph {_quoted(group.name)} {{", "  rankdir=LR;"]
    for member in group.members:
        lines.append(f"  {_quoted(member.key)} [label={_quoted(f'{member.key}: {state_of(member.job)}')}];")
        lines += [
            f"  {_quoted(edge.key)} -> {_quoted(member.key)} [label={_quoted(_need(edge))}];" for edge in member.after
        ]
    return [*lines, "}"]


def _line(member: JobGroupMember, depth: int) -> str:
    after = ", ".join(f"{edge.key} {_need(edge)}" for edge in member.after)
    return f"{'  ' * depth}{member.key}  {state_of(member.job)}{f'  after {after}' if after else ''}"


def _need(edge: MemberDependency) -> str:
    need = enum_name(edge.DESCRIPTOR.fields_by_name["need"], edge.need).lower()
    return f"{need} if {edge.condition}" if edge.condition else need


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
