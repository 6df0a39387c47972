"""JobGroupService."""

from __future__ import annotations

from hypersdk.api.jobs.v1 import job_groups_pb2 as pb

from hypersdk_kernel.engine.groups import GroupView, JobGroups
from hypersdk_kernel.model.group import Edge, GroupState, JobGroup, Member, OnFailure, group_state
from hypersdk_kernel.model.names import id_of, new_id
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.jobviews import NEEDS, job_message, need_of, new_job_of
from hypersdk_kernel.services.values import timestamp

_POLICIES = {p: pb.GroupFailurePolicy.Value(f"GROUP_FAILURE_POLICY_{p.name}") for p in OnFailure}
_POLICY_OF = {value: policy for policy, value in _POLICIES.items()}
_STATES = {s: pb.JobGroupState.Value(f"JOB_GROUP_STATE_{s.name}") for s in GroupState}


class JobGroupService(Service):
    """Submits, follows and cancels groups of jobs."""

    descriptor = pb.DESCRIPTOR.services_by_name["JobGroupService"]

    def __init__(self, groups: JobGroups) -> None:
        self._groups = groups

    async def create_job_group(self, request: pb.CreateJobGroupRequest, call: Call) -> pb.JobGroup:
        asked = request.job_group
        group = JobGroup(
            id=request.job_group_id or new_id("group"),
            members=tuple(
                Member(m.key, tuple(Edge(e.key, need_of(e.need), e.condition) for e in m.after))
                for m in asked.members
            ),
            on_failure=_POLICY_OF.get(asked.on_failure, OnFailure.CONTINUE),
            display_name=asked.display_name,
        )
        news = [new_job_of(member.job, group.job_id(member.key)) for member in asked.members]
        view = await self._groups.create(
            group, news, actor=call.actor, key=call.key, validate_only=request.validate_only
        )
        return _message(view)

    async def get_job_group(self, request: pb.GetJobGroupRequest, _call: Call) -> pb.JobGroup:
        return _message(await self._groups.get(id_of(request.name, "jobGroups")))

    async def list_job_groups(self, request: pb.ListJobGroupsRequest, _call: Call) -> pb.ListJobGroupsResponse:
        size = pages.page_size(request.page_size)
        after = pages.key_of(request.page_token, (float, str), "jobGroups")
        rows = await self._groups.page(size + 1, after)
        page, token = pages.cut(rows, size, lambda v: pages.token((v.group.create_time, v.group.id), "jobGroups"))
        return pb.ListJobGroupsResponse(job_groups=[_message(view) for view in page], next_page_token=token)

    async def cancel_job_group(self, request: pb.CancelJobGroupRequest, call: Call) -> pb.JobGroup:
        group_id = id_of(request.name, "jobGroups")
        view = await self._groups.cancel(
            group_id, actor=call.actor, key=call.key, validate_only=request.validate_only
        )
        return _message(view)


def _message(view: GroupView) -> pb.JobGroup:
    """Without members where the jobs were not asked for."""
    group = view.group
    state = group_state(view.counts)
    ends = [job.end_time for job in view.jobs.values() if job.end_time is not None]
    out = pb.JobGroup(
        name=group.name,
        display_name=group.display_name,
        on_failure=_POLICIES[group.on_failure],
        state=_STATES[state],
        create_time=timestamp(group.create_time) if group.create_time else None,
        end_time=timestamp(max(ends)) if ends and state is not GroupState.ACTIVE else None,
        job_counts=view.counts,
    )
    for member in group.members if view.jobs else ():
        added = out.members.add(key=member.key)
        if member.key in view.jobs:
            added.job.CopyFrom(job_message(view.jobs[member.key]))
        for edge in member.after:
            added.after.add(key=edge.key, need=NEEDS[edge.need], condition=edge.condition)
    return out
