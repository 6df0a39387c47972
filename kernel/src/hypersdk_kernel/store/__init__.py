"""The kernel's memory: SQL through SQLAlchemy Core, one writer with group commit, an event beside every change.

    tables    the schema            engine    Store: open, migrate, write, read
    codec     model ⇄ JSON          jobs, connections, plugins, events, requests    queries, one file a noun

Not here: rules. What may change is decided above; this floor stores it whole or not at all.
"""
