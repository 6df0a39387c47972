"""The numbers of the NBD protocol (proto.md of the NBD project, section "Values")."""

from __future__ import annotations

import struct

# Handshake
INIT_MAGIC = 0x4E42444D41474943  # "NBDMAGIC"
OPTION_MAGIC = 0x49484156454F5054  # "IHAVEOPT"
OPTION_REPLY_MAGIC = 0x0003E889045565A9
HELLO = struct.Struct(">QQH")
OPTION = struct.Struct(">QII")
OPTION_REPLY = struct.Struct(">QIII")

FLAG_FIXED_NEWSTYLE = 1
FLAG_NO_ZEROES = 2

OPT_ABORT = 2
OPT_GO = 7
OPT_STRUCTURED_REPLY = 8
OPT_SET_META_CONTEXT = 10
OPT_EXTENDED_HEADERS = 11

REP_ACK = 1
REP_INFO = 3
REP_META_CONTEXT = 4
REP_ERROR = 1 << 31
REP_ERR_UNSUP = REP_ERROR + 1
REP_ERR_POLICY = REP_ERROR + 2
REP_ERR_INVALID = REP_ERROR + 3
REP_ERR_PLATFORM = REP_ERROR + 4
REP_ERR_TLS_REQD = REP_ERROR + 5
REP_ERR_UNKNOWN = REP_ERROR + 6
REP_ERR_SHUTDOWN = REP_ERROR + 7
REP_ERR_BLOCK_SIZE_REQD = REP_ERROR + 8
REP_ERR_TOO_BIG = REP_ERROR + 9

INFO_EXPORT = 0
INFO_BLOCK_SIZE = 3

# Transmission flags of an export
HAS_FLAGS = 1 << 0
READ_ONLY = 1 << 1
SEND_FLUSH = 1 << 2
SEND_TRIM = 1 << 5
SEND_WRITE_ZEROES = 1 << 6
CAN_MULTI_CONN = 1 << 8

# Requests
REQUEST_MAGIC = 0x25609513
EXTENDED_REQUEST_MAGIC = 0x21E41C71
REQUEST = struct.Struct(">IHHQQI")
EXTENDED_REQUEST = struct.Struct(">IHHQQQ")

CMD_READ = 0
CMD_WRITE = 1
CMD_DISC = 2
CMD_FLUSH = 3
CMD_TRIM = 4
CMD_WRITE_ZEROES = 6
CMD_BLOCK_STATUS = 7

COMMANDS = {
    CMD_READ: "read", CMD_WRITE: "write", CMD_FLUSH: "flush", CMD_TRIM: "trim", CMD_WRITE_ZEROES: "write zeroes",
    CMD_BLOCK_STATUS: "block status",
}  # fmt: skip

CMD_FLAG_PAYLOAD_LEN = 1 << 5
"""With extended headers: the length of a request is that of the payload behind it. Required for writes."""

# Replies
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF
EXTENDED_REPLY_MAGIC = 0x6E8A278C
SIMPLE_REPLY = struct.Struct(">IIQ")
STRUCTURED_REST = struct.Struct(">I")  # what a structured header has behind the 16 bytes of a simple one
EXTENDED_REST = struct.Struct(">QQ")

REPLY_FLAG_DONE = 1
REPLY_NONE = 0
REPLY_OFFSET_DATA = 1
REPLY_OFFSET_HOLE = 2
REPLY_BLOCK_STATUS = 5
REPLY_BLOCK_STATUS_EXT = 6
REPLY_ERROR_BIT = 1 << 15
REPLY_ERROR = REPLY_ERROR_BIT + 1
REPLY_ERROR_OFFSET = REPLY_ERROR_BIT + 2

OFFSET = struct.Struct(">Q")
HOLE = struct.Struct(">QI")
ERROR = struct.Struct(">IH")
CONTEXT = struct.Struct(">I")
CONTEXT_EXT = struct.Struct(">II")

# Metadata contexts
BASE_ALLOCATION = "base:allocation"
DIRTY_BITMAP = "qemu:dirty-bitmap:"
STATE_ZERO = 2
"""base:allocation, bit 1: the bytes read as zeros. Bit 0, hole, promises nothing about content by itself."""
STATE_DIRTY = 1

# Bounds
MAX_NAME_BYTES = 4096
"""Of an export or a context: "strings … MUST be … at most 4096 bytes"."""
MAX_SIZE = (1 << 63) - 1
DEFAULT_MIN_BLOCK = 512
DEFAULT_PREFERRED_BLOCK = 4096
DEFAULT_MAX_BLOCK = 32 << 20
"""What a client uses that wants to talk to any server, where the server tells no block sizes."""
MAX_MIN_BLOCK = 65536
UNLIMITED = 0xFFFFFFFF
