"""Entry point: dispatch on the first argument.

`hyperctl image …` must start in less than 0.2 s. `import typer` alone takes 60 to 100 ms here and grpc 120, argparse
10; so the image commands have a parser of their own, and the daemon's commands are loaded only for themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["image"]:
        from hyperctl.image.entry import run as run_image

        return run_image(given[1:])
    from hyperctl.app import run

    return run(given)


if __name__ == "__main__":
    sys.exit(main())
