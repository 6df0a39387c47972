"""Compiles proto/ into the descriptor set that the plugin ships: `python make_descriptor_set.py PROTO_FOLDER OUT`.

PROTO_FOLDER is HyperSDK's proto/, for buf/validate/validate.proto. With protoc at hand it is
`protoc -I proto -I PROTO_FOLDER --include_imports --descriptor_set_out=OUT example/retention/v1/retention.proto`.
"""

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).parent
SOURCES = sorted(str(path.relative_to(HERE / "proto")) for path in (HERE / "proto").rglob("*.proto"))


def main(hypersdk_proto: str, out: str) -> int:
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    folders = [HERE / "proto", hypersdk_proto, well_known]
    return protoc.main(
        ["protoc", *(f"-I{folder}" for folder in folders), "--include_imports", f"--descriptor_set_out={out}", *SOURCES]
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
