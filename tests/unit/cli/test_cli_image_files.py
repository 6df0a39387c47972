"""`hyperctl image` on real files: overlays, chains, option lists, maps, exit statuses."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from hyperctl.image.entry import run

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.raw").write_bytes(b"b" * MIB + bytes(MIB))
    (tmp_path / "new.raw").write_bytes(b"b" * MIB + bytes(MIB // 2) + b"n" * (MIB // 2))
    return tmp_path


def test_an_overlay_records_its_base_and_compares_equal(folder, capsys):
    assert run(["convert", "-q", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "new.raw", "over.qcow2"]) == 0
    assert run(["compare", "-q", "--chain", "-F", "raw", "over.qcow2", "new.raw"]) == 0
    assert run(["info", "--output", "json", "--backing-chain", "over.qcow2"]) == 0
    top, base = json.loads(capsys.readouterr().out)
    assert (top["backing-file"], top["backing-format"]) == ("base.raw", "raw")
    assert (base["filename"], base["format"], base["virtual-size"]) == ("base.raw", "raw", 2 * MIB)


def test_the_format_of_the_base_is_probed_and_said(folder, capsys):
    assert run(["convert", "-f", "raw", "-O", "qcow2", "-B", "base.raw", "new.raw", "over.qcow2"]) == 0
    assert "base.raw has the mark of no known format; reading it as raw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["-O", "qcow2", "-B", "./base.raw"], "REFERENCE_REFUSED"), (["-O", "qcow2", "-F", "raw"], "BASE_MISSING"),
     (["-O", "vmdk", "-B", "base.raw"], "BACKING_FILE_UNSUPPORTED")],
)  # fmt: skip
def test_what_no_overlay_can_be_made_of_is_refused(folder, capsys, arguments, reason):
    assert run(["convert", "-f", "raw", *arguments, "new.raw", "over.img"]) != 0
    assert reason in capsys.readouterr().err
    assert not (folder / "over.img").exists()


def test_a_chain_of_information_is_held_to_plain_names_and_finds_loops(folder, capsys):
    run(["convert", "-q", "-f", "raw", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "new.raw", "over.qcow2"])
    shutil.copy("over.qcow2", "loop.qcow2")
    data = bytearray((folder / "loop.qcow2").read_bytes())
    at = data.index(b"base.raw")
    data[16:20] = len(b"loop.qcow2").to_bytes(4, "big")
    data[at : at + 10] = b"loop.qcow2"
    kind = data.index(b"raw\0\0\0\0\0") - 4
    data[kind : kind + 12] = (5).to_bytes(4, "big") + b"qcow2\0\0\0"
    (folder / "loop.qcow2").write_bytes(data)
    assert run(["info", "--backing-chain", "loop.qcow2"]) == 1
    assert "BACKING_CHAIN_LOOP" in capsys.readouterr().err
    data[at : at + 10] = b"../etc/loo"
    (folder / "loop.qcow2").write_bytes(data)
    assert run(["info", "--backing-chain", "loop.qcow2"]) == 4
    assert "REFERENCE_REFUSED" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["convert", "measure"])
def test_help_among_the_options_lists_them_without_a_file(capsys, command):
    assert run([command, "-O", "qcow2", "-o", "help"]) == 0
    out = capsys.readouterr().out
    assert "  cluster_size " in out
    assert "  backing_file " in out


def test_a_missing_file_is_a_wrong_use(capsys):
    assert run(["convert", "-O", "qcow2", "only.raw"]) == 2
    assert "required: DST" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["qcow2", "vmdk", "vdi", "vpc", "vhdx", "ova", "raw"])
def test_measure_is_never_less_than_what_is_written(folder, capsys, target):
    assert run(["convert", "-q", "-f", "raw", "-O", target, "new.raw", "out.img"]) == 0
    assert run(["measure", "-f", "raw", "-O", target, "--output", "json", "new.raw"]) == 0
    assert json.loads(capsys.readouterr().out)["required"] >= (folder / "out.img").stat().st_blocks * 512 - 65536


@pytest.mark.peer
@pytest.mark.parametrize("target", ["qcow2", "vmdk", "vdi", "vpc"])
def test_map_names_the_places_of_data_as_qemu_img_does(folder, capsys, target):
    assert run(["convert", "-q", "-f", "raw", "-O", target, "new.raw", "out.img"]) == 0
    assert run(["map", "-f", target, "--output", "json", "out.img"]) == 0
    ours = json.loads(capsys.readouterr().out)
    theirs = json.loads(subprocess.check_output(["qemu-img", "map", "-f", target, "--output", "json", "out.img"]))
    wanted = [{k: v for k, v in e.items() if k != "compressed"} for e in theirs if e["data"]]
    assert [e for e in ours if e["data"]] == wanted
    assert all(e["zero"] and not e["present"] and "offset" not in e for e in ours if not e["data"])


def test_check_answers_as_qemu_img_does(folder, capsys):
    run(["convert", "-q", "-f", "raw", "-O", "qcow2", "base.raw", "sound.qcow2"])
    assert run(["check", "sound.qcow2"]) == 0
    data = bytearray((folder / "sound.qcow2").read_bytes())
    table = int.from_bytes(data[int.from_bytes(data[40:48], "big") :][:8], "big") & ~(1 << 63)
    leaky = data.copy()
    leaky[table : table + 8] = bytes(8)
    (folder / "leaky.qcow2").write_bytes(leaky)
    assert run(["check", "leaky.qcow2"]) == 3
    assert run(["check", "-r", "leaks", "leaky.qcow2"]) == 0
    assert run(["check", "leaky.qcow2"]) == 0
    data[table] &= 0x7F  # COPIED of the first cluster
    (folder / "flag.qcow2").write_bytes(data)
    assert run(["check", "-r", "leaks", "flag.qcow2"]) == 2
    assert run(["check", "-r", "all", "flag.qcow2"]) == 0
    assert run(["check", "flag.qcow2"]) == 0
    assert run(["check", "-f", "raw", "base.raw"]) == 63
    (folder / "cut.qcow2").write_bytes(data[:3000])
    assert run(["check", "cut.qcow2"]) == 1
    assert run(["check", "absent.qcow2"]) == 1
    capsys.readouterr()
