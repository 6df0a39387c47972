"""The engine of `hyperctl plugin test`: judges a plugin in any language from outside.

    project     what lies at a path: a source folder or a wheel, read without importing it
    static      checks of manifest, entry points, packaging, documents
    harness     HostHarness: a host process, spoken to as the kernel does, and as no kernel would
    protocol    checks of the host protocol (docs/host-protocol.md)
    methods     checks of every declared method, with valid and with hostile requests
    suites      the plugin's own tests, which subclass the contracts of hypersdk.testing
    checks      what a check is, and its outcome
    engine      runs all of them

Standard library only: it must run where only the plugin and this SDK are. No daemon is needed.
"""

from hypersdk.testing.conformance.checks import Outcome, Report, Status
from hypersdk.testing.conformance.engine import run
from hypersdk.testing.conformance.harness import Answer, HostHarness
from hypersdk.testing.conformance.project import Project, open_project

__all__ = ["Answer", "HostHarness", "Outcome", "Project", "Report", "Status", "open_project", "run"]
