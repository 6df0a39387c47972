"""The host: a process that answers the control calls of one plugin generation.

Started as `python -I -m hypersdk.host --fd N`; the protocol is docs/host-protocol.md.

    server         the life of the process: initialize, call, cancel, shutdown
    calls          one call: find the component and its instance, run it, type what it raises
    instances      configured providers and storages, one for each connection and configuration
    request        what an adapter is given
    result         checks what a plugin returned on its way to JSON
    provider, storage, image_format, task, notifier, pricing, secrets, service
                   one adapter a kind: a service's messages to the contract's methods and back

Standard library only, and little of it: a host answers `initialize` within 60 ms of its own time. Nothing of
the data path runs here.
"""
