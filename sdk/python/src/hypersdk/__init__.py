"""HyperSDK for plugin authors and API clients.

    errors    the one tree of typed errors; everything may raise from it
    wire      length-prefixed JSON-RPC frames: how kernel and children talk
    plugin    the contracts a plugin implements, and its manifest (standard library only)
    data      extents, block sources and sinks, the copy pipeline, image files
    host      the process that answers a plugin's control calls
    runner    the process that executes one attempt of one job
    client    the typed gRPC client, sync and async
    testing   conformance suites, one class a contract
    api       code generated from proto/
"""

__version__ = "0.1.0"
