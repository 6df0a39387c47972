"""Settings of the daemon: flag > environment (HYPERSDK_*) > file (TOML) > default.

Each field is one setting: its description is the flag's help, and docs/configuration.md has a row for it (a test
compares them). Sizes are bytes, times seconds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.plugin.hostcommand import INTERPRETERS
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

ENV_PREFIX = "HYPERSDK_"
CONFIG_VARIABLE = "HYPERSDK_CONFIG"


def default_state_dir(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """`/var/lib/hypersdk` for root, else below XDG_STATE_HOME; the clients look in the same place."""
    if (os.geteuid() if uid is None else uid) == 0:
        return Path("/var/lib/hypersdk")
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hypersdk"


def default_config_file(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """`/etc/hypersdk/hypersdkd.toml` for root, else below XDG_CONFIG_HOME. It need not exist."""
    if (os.geteuid() if uid is None else uid) == 0:
        return Path("/etc/hypersdk/hypersdkd.toml")
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hypersdk" / "hypersdkd.toml"


class Settings(BaseSettings):
    """What the daemon was told. Immutable."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    state_dir: Path = Field(default_factory=default_state_dir, description="where the daemon keeps everything")
    database: str = Field("", description="postgresql://user@host:port/name; empty: SQLite in the state directory")
    database_password_file: Path | None = Field(None, description="file with the password for PostgreSQL, mode 0600")
    runs_dir: Path | None = Field(None, description="where runners work; kernels on one database and host may share it")
    runner_orphan_s: int = Field(60, ge=3, le=3600, description="PostgreSQL: a runner without a kernel ends itself")
    tcp: bool = Field(True, description="listen on TCP (TLS and token) beside the unix socket")
    tcp_host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    tcp_port: int = Field(0, ge=0, le=65535, description="port; 0: a free one, written to the file `address`")
    tls_names: tuple[str, ...] = Field((), description="more names or addresses in the server's certificate")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON lines"
    )
    max_runners: int = Field(4, ge=1, le=20_000, description="attempts that move data at once")
    cancel_grace_s: float = Field(30.0, gt=0, le=3600, description="from asking a runner to stop to killing it")
    log_file_bytes: int = Field(16 << 20, ge=64 << 10, le=1 << 40, description="size of one file of an attempt's logs")
    log_files: int = Field(4, ge=1, le=100, description="files kept of an attempt's log, and of its output")
    log_retention_s: int = Field(
        30 * 86400, ge=0, le=100 * 365 * 86400, description="how long a job's logs are kept after its end; 0: for ever"
    )
    audit_keep_rows: int = Field(
        1_000_000, ge=0, le=1_000_000_000, description="newest audit entries in the database; 0: all"
    )
    audit_keep_s: int = Field(
        0, ge=0, le=100 * 365 * 86400, description="how long audit entries are in the database; 0: for ever"
    )
    runner_port: int = Field(0, ge=0, le=65535, description="where runners on other machines connect; 0: nowhere")
    runner_host: str = Field("127.0.0.1", min_length=1, max_length=255, description="address of that listener")
    runner_address: str = Field("", max_length=300, description="HOST:PORT that remote runners call; empty: the same")
    runner_place_s: float = Field(300.0, ge=1, le=86400, description="for an executor to find a machine")
    runner_work_dir: str = Field(
        "/var/tmp/hypersdk-runners",  # noqa: S108 - made with mode 0700, and checked
        pattern="^/", max_length=1024, description="where remote runners work, on their machines",
    )  # fmt: skip
    max_message_bytes: int = Field(4 << 20, ge=64 << 10, le=64 << 20, description="largest request and answer")
    max_streams: int = Field(2048, ge=1, le=100_000, description="Watch and log streams open at once")
    metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus metrics on 127.0.0.1; 0: none")
    otlp_endpoint: str = Field("", max_length=2048, description="OTLP/HTTP collector for traces; empty: none")
    heartbeat_s: float = Field(15.0, gt=0, le=3600, description="a silent stream says this often that it lives")
    call_timeout_s: float = Field(60.0, gt=0, le=3600, description="for unary calls that came without a deadline")
    plugin_wheels: Path | None = Field(None, description="folder of wheels in which plugins and their needs are found")
    plugin_index: str = Field("", description="package index in which plugins and their needs are found")
    plugin_paths: tuple[str, ...] = Field((), description="source folders of plugins, served without being installed")
    reload_editable: bool = Field(False, description="editable plugins are reloaded when their files change")
    plugin_keys: Path | None = Field(None, description="public key, or folder of them, that may sign plugins")
    require_signatures: bool = Field(False, description="install only wheels that a key of plugin_keys signed")
    plugin_allow: tuple[str, ...] = Field((), description="plugins that may be installed: NAME*, NAME==1.2; none: all")
    trace_frames: str = Field("", description="file for the frames between kernel and children; - is standard error")
    host_interpreters: tuple[str, ...] = Field(INTERPRETERS, description="what may run hosts that are not Python")
    sandbox: Literal["off", "enforce"] = Field("enforce", description="whether plugin hosts are confined")
    host_memory_bytes: int = Field(2 << 30, ge=64 << 20, le=1 << 40, description="resident memory of a plugin's host")
    host_open_files: int = Field(4096, ge=256, le=1 << 20, description="descriptors of a plugin's host")
    host_processes: int = Field(64, ge=0, le=4096, description="programs that a plugin's host may have running")
    host_cpu_share: float = Field(1.0, ge=0.05, le=64, description="of a core, for a host that nobody calls")
    probation_s: float = Field(30.0, ge=0, le=3600, description="how long a swapped plugin can be taken back")
    grace_s: float = Field(10.0, ge=0, le=3600, description="for calls in flight when the daemon stops")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes all by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get(CONFIG_VARIABLE) or default_config_file())
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)


def load(flags: Mapping[str, Any]) -> Settings:
    """The settings, `flags` being those given on the command line. Raises InvalidArgument (CONFIG_INVALID) naming
    every wrong one."""
    try:
        return Settings(**flags)
    except ValidationError as exc:
        faults = tuple(
            FieldViolation(".".join(map(str, error["loc"])), error["msg"]) for error in exc.errors(include_input=False)
        )
    except (ValueError, OSError) as exc:  # not TOML, not readable
        faults = (FieldViolation("configuration file", str(exc)),)
    listed = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
    raise InvalidArgument(f"wrong configuration: {listed}", reason="CONFIG_INVALID", violations=faults)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What stood there. `file`: of a command that takes one; `flags`: settings given as flags."""

    command: Literal["run", "backup-state", "restore-state"]
    file: Path | None
    config: Path | None
    flags: Mapping[str, Any]


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    """Exits with 2 on a wrong flag, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="hypersdkd",
        description="The HyperSDK daemon. Settings: flag > environment (HYPERSDK_*) > file > default.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "command", nargs="?", choices=["run", "backup-state", "restore-state"], default="run",
        help="run in the foreground (default); copy the database of a daemon, running or not, into FILE; put FILE in "
        "the place of a stopped daemon's database",
    )  # fmt: skip
    parser.add_argument("file", nargs="?", type=Path, default=None, metavar="FILE", help="for the latter two")
    parser.add_argument("--config", type=Path, default=None, metavar="FILE", help=f"TOML file; or ${CONFIG_VARIABLE}")
    for name, field in Settings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        text = (field.description or "").replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        elif field.annotation == tuple[str, ...]:
            parser.add_argument(flag, nargs="*", metavar="NAME", help=text)
        elif name == "trace_frames":
            parser.add_argument(flag, nargs="?", const="-", metavar="FILE", help=text)
        else:
            parser.add_argument(flag, metavar="VALUE", help=text)
    given = vars(parser.parse_args(arguments))
    line = CommandLine(given.pop("command"), given.pop("file"), given.pop("config"), given)
    if (line.command == "run") != (line.file is None):
        parser.error("run takes no FILE" if line.command == "run" else f"{line.command} needs a FILE")
    return line
