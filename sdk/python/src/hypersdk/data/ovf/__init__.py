"""OVF packages, as DMTF DSP0243 has them: an XML descriptor of one machine, its disks, a manifest of digests; as files
beside one another (`.ovf`) or as one tar archive (`.ova`).

    xml          a small tree from XML that may be hostile
    descriptor   the descriptor, read              envelope   … and written
    names        which names a package may use, and names as text
    archive      the members of a tar archive, read and judged
    tar          tar headers and streams, written
    manifest     the `.mf` file: read, written, held to the files
    package      a descriptor with the files it may name
    verify       is the package what its manifest says?
    spool        a file that is compressed as a whole, unpacked within limits

Quick to import: whoever lists machines needs no numpy. Not here: what a disk image holds
(format plugins), and signatures (`.cert` files are noticed, never verified).
"""
