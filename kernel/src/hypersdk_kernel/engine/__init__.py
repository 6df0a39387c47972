"""Jobs, from acknowledged to ended.

    engine        all of this floor, put together
    gates         what keeps a job from being queued: timegate, dependencies, windows, carbon
    admission     from a job that could run to the queue
    overrun       what deadlines and windows end     reopening   what a window paused goes on
    queue         which job is next     limits, bandwidth   how many, how often, how fast
    maintenance   what operators do with the queue
    submission    from a wish to jobs in the store     groups   jobs submitted together     explain   why one waits
    taskspec      what a spec names: connections, formats, generations to pin
    transitions   the one way in which a job's state changes
    rundir        what a runner leaves on disk: lock, journal, socket, checkpoint
    runner        one attempt's process, followed until it ends     briefs   many brief attempts in warm ones
    placing       here, or by an executor     executors   calls of executor plugins
    remotes       the listener of remote runners     remotelink   one connection     remoterunner   one such attempt
    mirror        what such an attempt leaves, written here
    dispatcher    starts attempts, settles their ends, adopts what a former kernel started
    jobs          what clients ask
    schedules     what clients ask of schedules     scheduler   the clock loop     firing   an occurrence becomes a job
    carbon        the gate of jobs that may wait for cleaner or cheaper hours
    leadership    what only one of several kernels does     foreign   what clients asked of the others
    connections   configured providers and storages

Not here: what a task does (plugins), how a plugin's process is kept (hosting).
"""
