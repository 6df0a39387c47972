"""The runner: a process that executes one attempt of one job.

Started as `python -I -m hypersdk.runner --spec-fd N`; the protocol is docs/host-protocol.md.

    attempt      the life of the process, from the spec to the `finished` record and the exit status
    spec         what the kernel wants done, read from a memory file
    journal      the append-only truth of the attempt, and reading those of earlier ones
    checkpoint   the job's last saved state, replaced whole
    resources    what was acquired and not released, over all attempts
    gate         pause and cancel          throttle    the bandwidth limit
    progress     how far it is, thinned out
    control      the socket on which a kernel, or the next one, attaches and commands
    components   the granted plugins: imported, configured, closed
    images       probing and opening local image files
    context      the TaskContext that a task is given
    log          log.jsonl
    remote       the agent that stands between a kernel and a runner on another machine, with remoteorder (what it is
                 told), remotetls (its connection), remotedir, remotelocal and remotefeed (its machine)

A runner depends on nothing but its own directory: the kernel may die at any moment and come back, or not.
Standard library only; the data path is imported by whoever uses it.
"""
