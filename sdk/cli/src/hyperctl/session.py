"""Session: what a command is given. Its settings, the client (opened when first used), and where talk goes.

Typer commands get theirs with `Session.of(context)`. Not here: printing data (`output`), following jobs (`waiting`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import typer

from hyperctl.settings import Setting
from hyperctl.units import parse_duration

if TYPE_CHECKING:
    from hypersdk.client import Client, Endpoint


@dataclass
class Session:
    """Made once a process by the root callback; `close` ends it."""

    settings: Mapping[str, Setting]
    quiet: bool = False

    @staticmethod
    def of(context: typer.Context) -> Session:
        """The session of a running command."""
        session = context.find_root().obj
        assert isinstance(session, Session)
        return session

    @property
    def output(self) -> str:
        """The output mode of commands that were given none."""
        return self.settings["output"].value

    @property
    def endpoint(self) -> Endpoint:
        from hypersdk.client.discovery import discover

        value = {key: setting.value for key, setting in self.settings.items()}
        return discover(
            value["address"],
            state_dir=value["state_dir"] or None,
            ca_file=value["ca_file"] or None,
            token_file=value["token_file"] or None,
        )

    @cached_property
    def client(self) -> Client:
        from hypersdk.client import CallOptions, Client

        options = CallOptions(timeout_s=parse_duration(self.settings["timeout"].value))
        return Client(endpoint=self.endpoint, options=options)

    def say(self, text: str) -> None:
        """Talk: one line on stderr, unless --quiet."""
        if not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()
