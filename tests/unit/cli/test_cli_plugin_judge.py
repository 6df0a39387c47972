"""`hyperctl plugin test`: a table or JSON, and exit status 1 for a plugin that fails."""

import json

from hyperctl import exits
from support.projects import write_plugin


def test_a_sound_plugin_is_exit_status_0(hyperctl, tmp_path):
    done = hyperctl("plugin", "test", write_plugin(tmp_path, "format"), "--part", "static")
    assert done.status == exits.OK
    assert "manifest.sound" in done.out
    assert "hypersdk-format-acme 0.1.0:" in done.out


def test_a_failure_is_exit_status_1_and_says_what_it_means_and_how_to_mend_it(hyperctl, tmp_path):
    folder = write_plugin(tmp_path, "format")
    (folder / "README.md").unlink()
    done = hyperctl("plugin", "test", folder, "--part", "static")
    assert done.status == exits.FAILED
    assert "package.readme FAILED" in done.out
    assert "  means: " in done.out
    assert "  mend:  " in done.out


def test_json_has_every_check_with_its_meaning(hyperctl, tmp_path):
    done = hyperctl("plugin", "test", write_plugin(tmp_path, "task"), "--part", "static", "-o", "json")
    report = json.loads(done.out)
    assert report["ok"] is True
    assert all(check["meaning"] and check["mend"] for check in report["checks"])


def test_what_a_plugin_says_cannot_command_the_terminal(hyperctl, tmp_path):
    folder = write_plugin(tmp_path, "task")
    path = folder / "src" / "hypersdk_task_acme" / "manifest.json"
    path.write_text(path.read_text().replace('"name": "hypersdk-task-acme"', '"na\\u001b]0;owned\\u0007me": 1'))
    done = hyperctl("plugin", "test", folder, "--part", "static")
    assert done.status == exits.FAILED
    assert "\x1b" not in done.out


def test_a_wrong_part_or_path_is_told(hyperctl, tmp_path):
    assert hyperctl("plugin", "test", tmp_path, "--part", "magic").status == exits.USAGE
    assert hyperctl("plugin", "test", tmp_path / "none").status == exits.NOT_FOUND
    assert hyperctl("plugin", "test", tmp_path).status == exits.USAGE
