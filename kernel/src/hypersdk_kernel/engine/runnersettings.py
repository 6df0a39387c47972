"""How attempts are run: what the daemon's settings say of it."""

from __future__ import annotations

from dataclasses import dataclass

from hypersdk_kernel.model.job import Job
from hypersdk_kernel.model.tracecontext import of_job


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """max_runners: attempts that move data at once. cancel_grace_s: from asking a runner to stop to killing it.
    log_file_bytes, log_files: what an attempt's log.jsonl, and its output.log, may be.
    brief_workers: warm processes for the brief tasks of each plugin.
    confined: runners give up what no task needs (hypersdk.wire.confine).
    place: names the folder of runs where several kernels may not see the same one; orphan_s: a runner that no kernel
    asks for in so many seconds ends itself, whole ones, 0: never; lost_after_s: by then it has, and the attempt of
    another place counts as lost. traced: runners time what they do."""

    max_runners: int = 4
    cancel_grace_s: float = 30.0
    log_file_bytes: int = 16 << 20
    log_files: int = 4
    brief_workers: int = 2
    confined: bool = False
    place: str = ""
    orphan_s: int = 0
    lost_after_s: float = 0.0
    traced: bool = False

    def of_runner(self) -> dict[str, int]:
        """As in a runner's spec."""
        return {"orphan_s": self.orphan_s, "log_file_bytes": self.log_file_bytes, "log_files": self.log_files}

    def trace(self, job: Job, number: int) -> dict[str, str]:
        """The same, of an attempt that is traced."""
        return {"traceparent": of_job(job.uid, number).traceparent} if self.traced else {}
