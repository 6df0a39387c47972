"""Plugins and the processes they run in.

    process      starting and watching a child           peer          JSON-RPC with it
    digest       what makes a build a build              discovery     the plugins of an environment
    registry     which component answers a name          hookspecs     the hooks that pass through pluggy
    host_process one process, from start to end          host          a generation's host, kept available
    handshake    is it what it should be?                backoff       when may it start again?
    lanes        how many calls at once                  childlog      what it prints
    supervisor   the pool of hosts                       routes        domain services as data
    stopped      hosts halted by a signal                canary        a share of calls and jobs
    gentle       what is only tried gives way
    router       a domain call, to its host              fanout        one list from many hosts
    wheel        a wheel, judged before it is unpacked   requirements  what of its needs is met already
    install      the store of plugins on disk            restore       what a starting kernel makes of it
    swap         one generation in another's place       probation     was that a good idea?
    lifecycle    install, activate, roll back, reload    removal       uninstall, collect garbage
    sourcetree   a source folder as a distribution       sourcewatch  reload on save
    ledger       what is written down of all that        dropfolder    plugins.d

No plugin is ever imported here: what the kernel knows of one it has read from its manifest.
"""
