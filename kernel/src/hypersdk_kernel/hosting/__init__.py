"""Plugins and the processes they run in.

    process      starting and watching a child          peer         JSON-RPC with it
    discovery    plugins of the kernel's environment    digest       what makes a build a build
    registry     which component answers a name         hookspecs    the hooks that pass through pluggy
    handshake    a fresh host, ready or refused         host         one generation's process, kept alive
    supervisor   the pool of hosts                      router       domain services → hosts

No plugin is ever imported here: what the kernel knows of one it read from its manifest.
"""
