"""The daemon-less image commands, with an interface close to qemu-img's.

    entry     dispatch, help, errors         arguments   the parser
    info  map  measure  check  compare  convert          a file a command: `run(arguments) -> exit status`

Everything runs in this process through hypersdk.data.images and the installed format plugins. Nothing here imports
grpc, rich, typer or yaml: the whole of `image info` takes less than 0.2 s, interpreter included.
"""
