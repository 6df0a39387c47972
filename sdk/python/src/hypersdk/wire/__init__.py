"""How the kernel and its children talk: JSON-RPC 2.0 in length-prefixed frames over a stream socket.

docs/host-protocol.md is the specification; this package is its Python side. `frames` cuts the stream into
messages, `rpc` gives messages their meaning. Standard library only, no asyncio here: the kernel has its own
asynchronous reader over the same `frames`.
"""
