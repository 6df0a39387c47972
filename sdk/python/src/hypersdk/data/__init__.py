"""The data path: from any source of extents to any sink of them, in constant memory.

    extent    Extent, FileRange and the rules for streams of them
    source    BlockSource: a virtual disk that can be read
    sink      BlockSink: a virtual disk that is being written
    imagefile ImageFile: a window of a regular file that format plugins read and write, and the rule which
              other files an image may name
    siblings  NewSiblings: the further files of an image that is being made
    pipeline  copy(source, sink): bounded read-ahead, progress, checkpoint, cancel
    digest    content digests: plain SHA-256 and a resumable tree of chunk digests
    layers    opening formats that are tables of units (unitsource, unitmap, twolevel, unitcodecs), with their chains
    filters   decorators of the same type: throttle, retry, meter, cache, window
    transfer  one disk into one image file, resumable and verified by reading it back (readback), for tasks
    ovf       OVF packages: descriptor, archive, manifest, read and written
    blank     a disk of zeros
    images    open, create, convert, compare, check whole images through the installed format plugins

Deliberately no gRPC, no kernel, no asyncio. Format plugins and tasks import from here; nothing here imports them.
"""
