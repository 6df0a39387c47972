"""`hyperctl plugin new` writes a plugin without a daemon."""

from hyperctl import exits


def test_it_writes_and_lists_the_files(hyperctl, tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERSDK_ADDRESS", "unix:/nowhere")
    done = hyperctl("plugin", "new", "storage", "acme", "--dir", tmp_path / "x")
    assert done.status == exits.OK
    assert (tmp_path / "x" / "pyproject.toml").exists()
    listed = done.out.splitlines()
    assert sorted(listed) == sorted(str(p) for p in (tmp_path / "x").rglob("*") if p.is_file())
    assert "hyperctl plugin dev" in done.err


def test_dry_run_writes_nothing(hyperctl, tmp_path):
    done = hyperctl("plugin", "new", "storage", "acme", "--dir", tmp_path / "x", "--dry-run")
    assert done.status == exits.OK
    assert "pyproject.toml" in done.out
    assert not (tmp_path / "x").exists()


def test_a_second_time_is_a_conflict(hyperctl, tmp_path):
    hyperctl("plugin", "new", "task", "acme", "--dir", tmp_path / "x")
    done = hyperctl("plugin", "new", "task", "acme", "--dir", tmp_path / "x")
    assert done.status == exits.CONFLICT
    assert "DIRECTORY_EXISTS" in done.err


def test_a_bad_name_is_a_matter_of_usage(hyperctl, tmp_path):
    assert hyperctl("plugin", "new", "task", "Bad Name", "--dir", tmp_path / "x").status == exits.USAGE
