"""Jobs, from acknowledged to ended.

    queue         which job is next
    taskspec      what a spec names: connections, formats, generations to pin
    transitions   the one way in which a job's state changes
    rundir        what a runner leaves on disk: lock, journal, socket, checkpoint
    runner        one attempt's process, followed until it ends
    dispatcher    starts attempts, settles their ends, adopts what a former kernel started
    jobs          what clients ask
    schedules     what clients ask of schedules     scheduler   the clock loop     firing   an occurrence becomes a job
    carbon        the gate of jobs that may wait for cleaner or cheaper hours
    leadership    what only one of several kernels does     foreign   what clients asked of the others
    connections   configured providers and storages

Not here: what a task does (plugins), how a plugin's process is kept (hosting).
"""
