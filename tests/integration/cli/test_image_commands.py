"""`hyperctl image` as a process on real images, judged by qemu-img."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support.attentive import HYPERCTL

pytestmark = pytest.mark.peer
MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _qemu_img():
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is missing; apt-get install qemu-utils")


def image(*arguments: object, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "hyperctl", "image", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert check is None or done.returncode == check, done.stderr
    return done


def qemu(*arguments: object) -> str:
    command = ["qemu-img", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """64 MiB with random bytes, text, zeros that are stored, and holes; its size is no multiple of 64 KiB."""
    path = tmp_path_factory.mktemp("images") / "disk.raw"
    with path.open("wb") as file:
        file.write(os.urandom(3 * MIB))
        file.seek(20 * MIB)
        file.write(b"The quick brown fox. " * 100_000)
        file.write(bytes(2 * MIB))
        file.seek(50 * MIB)
        file.write(os.urandom(MIB))
        file.truncate(64 * MIB + 512)
    return path


@pytest.mark.parametrize("target_format", ["qcow2", "vmdk", "raw"])
def test_what_is_converted_holds_the_same_for_qemu_img(raw, tmp_path, target_format):
    target = tmp_path / f"out.{target_format}"
    image("convert", "-f", "raw", "-O", target_format, raw, target)
    assert "identical" in qemu("compare", "-f", "raw", "-F", target_format, raw, target)
    assert os.listdir(tmp_path) == [target.name]


def test_options_reach_the_format(raw, tmp_path):
    target = tmp_path / "out.qcow2"
    image("convert", "-O", "qcow2", "-o", "cluster_size=4096", "-c", raw, target)
    assert json.loads(qemu("info", "--output", "json", target))["cluster-size"] == 4096
    assert target.stat().st_size < 6 * MIB
    assert "identical" in qemu("compare", raw, target)


def test_the_target_format_follows_the_extension(raw, tmp_path):
    image("convert", raw, tmp_path / "out.qcow2")
    assert json.loads(qemu("info", "--output", "json", tmp_path / "out.qcow2"))["format"] == "qcow2"
    assert "TARGET_FORMAT_MISSING" in image("convert", raw, tmp_path / "out.nothing", check=2).stderr


def test_what_qemu_img_wrote_is_read(raw, tmp_path):
    qemu("convert", "-O", "qcow2", "-c", raw, tmp_path / "in.qcow2")
    image("convert", "-O", "raw", "--parallel", "2", tmp_path / "in.qcow2", tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == raw.read_bytes()


def test_info_names_things_as_qemu_img_does(raw, tmp_path):
    qemu("convert", "-O", "qcow2", raw, tmp_path / "a.qcow2")
    with (tmp_path / "a.qcow2").open("rb") as file:
        os.fsync(file.fileno())  # until then the file system has not decided how much the file occupies
    ours = json.loads(image("info", "--output", "json", tmp_path / "a.qcow2").stdout)
    theirs = json.loads(qemu("info", "--output", "json", tmp_path / "a.qcow2"))
    for key in ("virtual-size", "filename", "cluster-size", "format", "actual-size"):
        assert ours[key] == theirs[key]
    assert ours["format-specific"]["type"] == "qcow2"
    assert ours["format-specific"]["data"]["compat"] == theirs["format-specific"]["data"]["compat"]
    human = image("info", tmp_path / "a.qcow2").stdout
    assert f"virtual size: 64 MiB ({64 * MIB + 512} bytes)" in human


def test_compare_answers_by_its_exit_status(raw, tmp_path):
    image("convert", "-O", "qcow2", raw, tmp_path / "same.qcow2")
    assert image("compare", raw, tmp_path / "same.qcow2").stdout == "Images are identical.\n"
    shutil.copy(raw, tmp_path / "other.raw")
    with (tmp_path / "other.raw").open("r+b") as file:
        file.seek(21 * MIB)
        file.write(b"!")
    done = image("compare", raw, tmp_path / "other.raw", check=1)
    assert done.stdout == f"Content mismatch at offset {21 * MIB}!\n"


def test_compare_of_what_cannot_be_read_is_never_exit_1(raw, tmp_path):
    assert image("compare", raw, tmp_path / "none", check=None).returncode >= 2
    (tmp_path / "torn.qcow2").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(60))
    assert image("compare", raw, tmp_path / "torn.qcow2", check=None).returncode >= 2


def test_reading_something_as_raw_because_nothing_fits_is_said(raw, tmp_path):
    assert "reading it as raw" in image("compare", raw, raw).stderr
    assert image("compare", "-q", raw, raw).stderr == ""
    assert image("compare", "-f", "raw", "-F", "raw", raw, raw).stderr == ""
    assert "reading it as raw" in image("convert", "-O", "raw", raw, tmp_path / "b.raw").stderr


def test_strict_tells_different_sizes_apart(raw, tmp_path):
    shutil.copy(raw, tmp_path / "longer.raw")
    os.truncate(tmp_path / "longer.raw", 65 * MIB)
    assert "size mismatch" in image("compare", raw, tmp_path / "longer.raw").stdout
    assert image("compare", "-s", raw, tmp_path / "longer.raw", check=1).stdout.startswith("Size mismatch")


def test_check_finds_leaks_and_reclaims_them(raw, tmp_path):
    path = tmp_path / "a.qcow2"
    qemu("convert", "-O", "qcow2", raw, path)
    image("check", path)
    with path.open("r+b") as file:
        header = file.read(48)
        table = int.from_bytes(header[40:48], "big")  # l1_table_offset; its first entry is freed, its L2 table leaks
        file.seek(table)
        file.write(bytes(8))
    assert image("check", path, check=3).stdout.strip().splitlines()
    image("check", "-r", "leaks", path)
    subprocess.run(["qemu-img", "check", "-q", path], check=True)


def test_check_of_a_format_without_one_is_63(raw):
    assert "CHECK_UNSUPPORTED" in image("check", "-f", "raw", raw, check=63).stderr


def test_map_covers_the_disk_and_agrees_on_zeros(raw, tmp_path):
    image("convert", "-O", "qcow2", raw, tmp_path / "a.qcow2")
    extents = json.loads(image("map", "--output", "json", tmp_path / "a.qcow2").stdout)
    assert extents[0]["start"] == 0
    assert sum(e["length"] for e in extents) == 64 * MIB + 512
    theirs = json.loads(qemu("map", "--output", "json", tmp_path / "a.qcow2"))
    assert sum(e["length"] for e in extents if e["data"]) == sum(e["length"] for e in theirs if e["data"])


def test_measure_is_an_upper_bound(raw, tmp_path):
    required = json.loads(image("measure", "-O", "qcow2", "--output", "json", raw).stdout)["required"]
    image("convert", "-O", "qcow2", raw, tmp_path / "a.qcow2")
    assert (tmp_path / "a.qcow2").stat().st_size <= required


def test_progress_stays_off_stdout(raw, tmp_path):
    done = image("convert", "-p", "-O", "qcow2", raw, tmp_path / "a.qcow2")
    assert done.stdout == ""
    assert "wrote" in done.stderr


def test_an_image_that_needs_its_parent_is_refused_without_chain(raw, tmp_path):
    shutil.copy(raw, tmp_path / "base.raw")
    qemu("create", "-f", "qcow2", "-F", "raw", "-b", "base.raw", tmp_path / "top.qcow2")
    done = image("convert", "-O", "raw", tmp_path / "top.qcow2", tmp_path / "out.raw", check=6)
    assert "IMAGE_HAS_PARENT" in done.stderr
    image("convert", "--chain", "-O", "raw", tmp_path / "top.qcow2", tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == raw.read_bytes()


@pytest.mark.faults
def test_ctrl_c_leaves_nothing_and_says_so(raw, tmp_path):
    process = _slow_conversion(raw, tmp_path / "out.qcow2")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted; nothing was left" in err
    assert os.listdir(tmp_path) == []


@pytest.mark.faults
def test_an_interrupted_resumable_conversion_goes_on(raw, tmp_path):
    target = tmp_path / "out.qcow2"
    process = _slow_conversion(raw, target, "--resume")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "goes on from its last checkpoint" in err
    assert not target.exists()
    image("convert", "--resume", "-O", "qcow2", raw, target)
    assert "identical" in qemu("compare", raw, target)
    assert os.listdir(tmp_path) == [target.name]


def _slow_conversion(raw, target, *flags):
    """A conversion that has begun to write and will not end soon."""
    process = subprocess.Popen(
        [*HYPERCTL, "image", "convert", "--rate-limit", "100KiB", "-O", "qcow2",
         *flags, str(raw), str(target)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not any(p.stat().st_size >= MIB for p in target.parent.iterdir()):
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["info"], ["convert", "a"], ["convert", "--parallel", "0", "a", "b"]]
)
def test_a_wrong_command_line_is_exit_2(arguments):
    assert image(*arguments, check=2).stderr.startswith("usage: hyperctl image")


def test_a_missing_file_is_exit_5(tmp_path):
    done = image("info", tmp_path / "none", check=5)
    assert done.stdout == ""
    assert "FILE_NOT_FOUND" in done.stderr


def test_output_into_a_closed_pipe_is_no_traceback(raw):
    command = f"{sys.executable} -m hyperctl image map -f raw --output json {raw} | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
