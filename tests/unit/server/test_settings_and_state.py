"""Settings and their precedence; the state directory and its lock; readiness."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypersdk.client.discovery import default_state_dir as clients_state_dir
from hypersdk.errors import Aborted, FailedPrecondition, InvalidArgument
from hypersdk_kernel.server.config import Settings, default_state_dir, load, parse_command_line
from hypersdk_kernel.server.statedir import MAX_SOCKET_PATH_BYTES, claim


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("HYPERSDK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HYPERSDK_CONFIG", str(tmp_path / "hypersdkd.toml"))


def test_flag_beats_environment_beats_file_beats_default(monkeypatch, tmp_path):
    (tmp_path / "hypersdkd.toml").write_text("max_runners = 5\nlog_level = 'debug'\ngrace_s = 1.5\n")
    monkeypatch.setenv("HYPERSDK_MAX_RUNNERS", "6")
    monkeypatch.setenv("HYPERSDK_LOG_LEVEL", "warning")
    flags = parse_command_line(["run", "--max-runners", "7", "--no-tcp"]).flags
    settings = load(flags)
    assert (settings.max_runners, settings.log_level, settings.grace_s) == (7, "warning", 1.5)
    assert settings.tcp is False
    assert settings.max_streams == 2048


@pytest.mark.parametrize(
    ("text", "field"),
    [("max_runner = 5", "max_runner"), ("max_runners = 0", "max_runners"), ("tcp_port = 70000", "tcp_port"),
     ("log_level = 'loud'", "log_level"), ("this is not TOML", "configuration file")],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, text, field):
    (tmp_path / "hypersdkd.toml").write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        load({})
    assert caught.value.reason == "CONFIG_INVALID"
    assert field in [violation.field for violation in caught.value.violations]


def test_every_setting_is_a_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_command_line(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in text for name in Settings.model_fields)


@pytest.mark.parametrize(("environ", "uid"), [({}, 0), ({"XDG_STATE_HOME": "/x"}, 1000), ({"XDG_STATE_HOME": "/x"}, 0)])
def test_daemon_and_clients_agree_where_the_state_lies(environ, uid):
    assert default_state_dir(environ, uid) == clients_state_dir(environ, uid=uid)


def test_the_directory_is_made_private_and_left_clean(tmp_path):
    with claim(tmp_path / "a" / "s") as state:
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
        assert state.pid.read_text() == f"{os.getpid()}\n"
    assert sorted(p.name for p in state.path.iterdir()) == ["audit", "lock", "plugins.d", "runs"]


def test_a_second_claim_names_the_holder_and_a_crash_lets_go(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from hypersdk_kernel.server.statedir import claim\n"
        f"with claim(Path({str(tmp_path / 's')!r})):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Aborted, match=f"pid {holder.pid}"), claim(tmp_path / "s"):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with claim(tmp_path / "s") as state:
        assert state.pid.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(("extra", "fits"), [(0, True), (1, False)])
def test_the_sockets_path_may_have_just_as_many_bytes_as_the_system_allows(extra, fits):
    import tempfile

    with tempfile.TemporaryDirectory(prefix="h") as folder:
        length = MAX_SOCKET_PATH_BYTES - len(folder) - len("//hypersdkd.sock") + extra
        path = Path(folder) / ("d" * length)
        if fits:
            with claim(path) as state:
                assert len(str(state.socket)) == MAX_SOCKET_PATH_BYTES
        else:
            with pytest.raises(InvalidArgument, match="shorter --state-dir"), claim(path):
                pass
            assert not path.exists()


def test_a_directory_of_someone_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(FailedPrecondition, match="belongs to user"), claim(tmp_path):
        pass
