"""NBD: disks read and written over the network block device protocol, on a unix socket or on loopback.

The protocol is that of the NBD project's proto.md, fixed newstyle: NBD_OPT_GO, structured replies, block status, and
extended headers where the server has them. Nothing that a server sends is believed: a length, an offset or a string
is judged before it is used, and a reply that cannot be true ends the connection with a typed error.

    address       where a server is           stream      exact reads and writes with timeouts
    constants     the protocol's numbers      handshake   from connect to transmission
    connection    requests and their replies  replies     what a reply may say
    pool          the connections of a disk   source, sink

Not here: TLS, servers, and servers on other machines: plain NBD has neither encryption nor authentication.
"""

from hypersdk.data.nbd.address import NbdAddress
from hypersdk.data.nbd.sink import NbdSink
from hypersdk.data.nbd.source import NbdSource

__all__ = ["NbdAddress", "NbdSink", "NbdSource"]
