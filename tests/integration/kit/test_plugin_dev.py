"""`hyperctl plugin dev`: a source folder in a live daemon; a save is a reload, a broken one is told, Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypersdk.testing.call import main as call_main
from support.projects import write_plugin

BIN = Path(sys.executable).parent


class Dev:
    """The command, and all that it printed."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [BIN / "hyperctl", "plugin", "dev", *map(str, arguments)], stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )  # fmt: skip
        self.text = ""
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.text += line
                self._changed.notify_all()

    def wait_for(self, what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: what in self.text, 60), f"no {what!r} in:\n{self.text}"

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.interrupt()


@pytest.fixture
def dev(request):
    started: list[Dev] = []

    def start(*arguments: object) -> Dev:
        started.append(Dev(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_save_is_a_reload_and_a_broken_one_is_told(dev, tmp_path):
    folder = write_plugin(tmp_path, "format")
    state = tmp_path / "state"
    running = dev(folder, "--state-dir", state)
    running.wait_for("plugins/format-acme is well")
    module = folder / "src" / "hypersdk_format_acme" / "format.py"
    text = module.read_text()
    module.write_text(text + "\nprint('the new code is loaded')\n")
    running.wait_for("line=the new code is loaded")
    module.write_text(text + "\nraise RuntimeError('a broken save')\n")
    running.wait_for("a broken save")
    assert running.interrupt() == 0
    assert not (state / "hypersdkd.sock").exists()


def test_without_a_state_directory_nothing_is_left(dev, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    running = dev(write_plugin(tmp_path, "storage"), "--trace-frames")
    running.wait_for("is well")
    running.wait_for("ping {}")
    assert running.interrupt() == 0
    assert list((tmp_path / "t").iterdir()) == []


def test_what_is_no_plugin_is_refused_before_a_daemon_starts(dev, tmp_path):
    running = dev(tmp_path)
    assert running.process.wait(60) == 2


def test_a_call_without_a_host_is_for_debuggers(tmp_path, capsys):
    folder = str(write_plugin(tmp_path, "secrets"))
    assert call_main([folder, "secrets/acme", "Resolve"]) == 0
    assert "a value for tests" in capsys.readouterr().out
    assert call_main([folder, "secrets/acme", "Resolve", '{"ref": "../x"}']) == 1
    assert "SECRET_PATH_INVALID" in capsys.readouterr().out
    assert call_main([folder]) == 2
