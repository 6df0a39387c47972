"""One call of a plugin in this process, for a debugger: `python -m pdb -m hypersdk.testing.call PATH COMPONENT METHOD`.

The plugin is loaded and called by the code of a host, without the host: no other process, thread or redirected
output, so that `breakpoint()` works. Arguments behind METHOD: request and config as JSON; what is left
out comes from the plugin's tests/conformance.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypersdk.errors import HyperError, InvalidArgument
from hypersdk.host.calls import Calls
from hypersdk.plugin.loading import extend_search_path
from hypersdk.testing.conformance.kinds import service_of
from hypersdk.testing.conformance.methods import good_requests
from hypersdk.testing.conformance.project import open_project
from hypersdk.testing.conformance.session import Subject
from hypersdk.wire.redact import Redactor
from hypersdk.wire.rpc import Request

_USAGE = "usage: python -m hypersdk.testing.call PATH COMPONENT METHOD [REQUEST [CONFIG]]"
_FEWEST, _MOST = 3, 5


def main(arguments: Sequence[str]) -> int:
    """Prints the result, or the error as it would go to the kernel; 1 for an error."""
    if not _FEWEST <= len(arguments) <= _MOST:
        sys.stderr.write(_USAGE + "\n")
        return 2
    path, name, method, *given = arguments
    try:
        result, status = call(Path(path), name, method, *(json.loads(text) for text in given)), 0
    except HyperError as exc:
        result, status = exc.to_json(), 1
    sys.stdout.write(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return status


def call(path: Path, name: str, method: str, request: Any = None, config: Any = None) -> dict[str, Any]:
    """The result. Raises what the plugin raises, as its host would type it."""
    with open_project(path) as project:
        if project.manifest is None:
            raise InvalidArgument(project.manifest_fault)
        if name not in project.entries:
            raise InvalidArgument(f"the plugin has {', '.join(sorted(project.entries))}, not {name!r}")
        extend_search_path([str(project.modules)])
        component = project.manifest.components[name]
        with Subject(project) as subject:
            calls = Calls({name: project.entries[name]}, project.manifest.to_json(), _log, Redactor())
            requests = [request] if request is not None else good_requests(subject, component, method)
            connection = subject.connection(component)
            if connection is not None and config is not None:
                connection["config"] = config
            params = {
                "component": name, "method": method, "service": service_of(component.kind, method),
                "request": requests[0] if requests else {}, "connection": connection,
            }  # fmt: skip
            try:
                return calls.call(Request(None, 1, "call", params))  # type: ignore[arg-type]  # it is not answered
            finally:
                calls.close()


def _log(level: str, event: str, fields: dict[str, Any]) -> None:
    sys.stderr.write(f"{level} {event}\n{fields.get('traceback', fields)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
