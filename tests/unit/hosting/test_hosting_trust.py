"""Who may come into the store: signatures, the allow-list, and names that two sources have."""

import http.server
import threading
from functools import partial

import pytest
from hypersdk import signing
from hypersdk.errors import DataLoss, FailedPrecondition, HyperError, InvalidArgument
from hypersdk_kernel.hosting.install import PluginStore, Sources
from hypersdk_kernel.hosting.trust import Allowed, Trust
from hypothesis import given
from hypothesis import strategies as st
from support.wheels import make_wheel

PACKAGE = "hypersdk_format_swapped"


@pytest.fixture
def keys(tmp_path):
    """A folder of one trusted key, and the private key's path."""
    folder = tmp_path / "keys"
    folder.mkdir()
    return new_key(folder / "publisher"), folder


def new_key(path):
    private, public = signing.generate_key()
    path.write_bytes(private)
    path.chmod(0o600)
    path.with_suffix(".pub").write_bytes(public)
    return path


def sign(wheel, key):
    wheel.with_name(wheel.name + ".sig").write_bytes(
        signing.sign(signing.digest_of(wheel), signing.load_private_key(key))
    )
    return wheel


def opened(tmp_path, sources=None, **policy):
    policy = {"keys": None, "required": False, "allowed": ()} | policy
    store = PluginStore(tmp_path / "plugins", sources, Trust.of(**policy))
    store.prepare()
    return store


def refusal(call, *arguments):
    with pytest.raises(HyperError) as caught:
        call(*arguments)
    return caught.value.reason


def builds(store):
    return [p.name for p in (store.root / "store").glob("*/*")]


def test_a_signed_wheel_comes_in_and_its_provenance_names_the_key(tmp_path, keys):
    key, folder = keys
    store = opened(tmp_path, keys=folder, required=True)
    wheel = sign(make_wheel(tmp_path), key)
    origin = store.add_wheel(wheel).generation.provenance
    [key_id] = signing.load_public_keys(folder)
    assert (origin.source, origin.sha256, origin.signer) == (wheel.name, signing.digest_of(wheel), key_id)


def test_unsigned_wrongly_signed_and_strangely_signed_wheels_stay_outside(tmp_path, keys):
    key, folder = keys
    store = opened(tmp_path, keys=folder, required=True)
    wheel = make_wheel(tmp_path)
    beside = wheel.with_name(wheel.name + ".sig")
    assert refusal(store.add_wheel, wheel) == "SIGNATURE_MISSING"
    sign(wheel, new_key(tmp_path / "stranger"))
    assert refusal(store.add_wheel, wheel) == "SIGNER_UNKNOWN"
    sign(wheel, key)
    good = beside.read_bytes()
    for bad in (b"{", b"[]", b'{"hypersdk_signature": 2}', b"x" * 5000, b'{"key": 1}' * 3, good[:-40] + b'"}',
                good.replace(b'"hypersdk_signature": 1', b'"hypersdk_signature": 9')):  # fmt: skip
        beside.write_bytes(bad)
        assert refusal(store.add_wheel, wheel) == "SIGNATURE_INVALID"
    beside.write_bytes(good)
    with wheel.open("ab") as file:
        file.write(b"\0")
    assert refusal(store.add_wheel, wheel) == "SIGNATURE_INVALID"
    assert builds(store) == []


def test_a_signature_that_is_wrong_is_refused_even_where_none_is_needed(tmp_path, keys):
    key, folder = keys
    store = opened(tmp_path, keys=folder)
    wheel = make_wheel(tmp_path)
    assert store.add_wheel(wheel, keep=False).generation.provenance.signer == ""
    other = make_wheel(tmp_path, "2.0")
    stolen = signing.sign(signing.digest_of(other), signing.load_private_key(key))
    with pytest.raises(FailedPrecondition) as caught:
        store.add_wheel(wheel, signature=stolen)
    assert caught.value.reason == "SIGNATURE_INVALID"


def test_a_signature_of_the_same_digest_for_another_purpose_is_none(tmp_path, keys):
    key, folder = keys
    private, digest = signing.load_private_key(key), "ab" * 32
    bare = private.sign(bytes.fromhex(digest))
    document = signing.sign(digest, private)
    import base64
    import json

    forged = json.dumps({**json.loads(document), "signature": base64.b64encode(bare).decode()}).encode()
    assert signing.verify(digest, document, signing.load_public_keys(folder))
    assert refusal(signing.verify, digest, forged, signing.load_public_keys(folder)) == "SIGNATURE_INVALID"


@given(st.binary(max_size=300))
def test_whatever_stands_in_a_signature_file_is_either_right_or_refused(data):
    assert refusal(signing.verify, "ab" * 32, data, {}) in {"SIGNATURE_INVALID", "SIGNER_UNKNOWN"}


def test_a_private_key_that_others_may_read_and_files_that_are_no_keys_are_refused(tmp_path, keys):
    key, folder = keys
    key.chmod(0o644)
    assert refusal(signing.load_private_key, key) == "KEY_UNSAFE"
    (folder / "junk.pem").write_text("junk")
    assert refusal(signing.load_public_keys, folder) == "KEY_INVALID"
    empty = tmp_path / "none"
    empty.mkdir()
    assert refusal(signing.load_public_keys, empty) == "KEY_INVALID"
    with pytest.raises(InvalidArgument) as caught:
        Trust.of(None, True, ())
    assert caught.value.reason == "CONFIG_INVALID"


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        ("hypersdk-format-*", True), ("Hypersdk_Format.Swapped", True), ("hypersdk-format-swapped==1.0", True),
        ("hypersdk-format-swapped>=1,<2", True), ("*", True),
        ("hypersdk-format-swapped>1", False), ("acme-*", False), ("hypersdk-format", False),
        ("hypersdk-format-swapped==1.0 sha256:" + "0" * 64, False),
    ],
)  # fmt: skip
def test_only_what_a_pattern_of_the_allow_list_covers_comes_in(tmp_path, rule, admitted):
    store = opened(tmp_path, allowed=(rule,))
    wheel = make_wheel(tmp_path)
    if admitted:
        store.add_wheel(wheel)
    else:
        assert refusal(store.add_wheel, wheel) == "PLUGIN_NOT_ALLOWED"
        assert builds(store) == []


def test_a_pattern_may_name_the_very_wheel(tmp_path):
    wheel = make_wheel(tmp_path)
    opened(tmp_path, allowed=(f"hypersdk-format-swapped sha256:{signing.digest_of(wheel)}",)).add_wheel(wheel)


@pytest.mark.parametrize("rule", ["", "a b", "x==", "x sha256:12", "x==1.0 sha512:" + "0" * 64, "/etc"])
def test_a_pattern_that_is_none_stops_the_start(rule):
    with pytest.raises(InvalidArgument) as caught:
        Allowed.parse(rule)
    assert caught.value.reason == "CONFIG_INVALID"


def test_what_came_in_earlier_is_judged_again_when_the_policy_is_stricter(tmp_path, keys):
    key, folder = keys
    store = opened(tmp_path)
    unsigned = store.add_wheel(make_wheel(tmp_path, "1.0")).generation
    signed = opened(tmp_path, keys=folder).add_wheel(sign(make_wheel(tmp_path, "2.0"), key)).generation
    strict = PluginStore(store.root, None, Trust.of(folder, True, ()))
    assert strict.load(signed).present
    assert refusal(strict.load, unsigned) == "SIGNATURE_MISSING"
    (folder / "publisher.pub").unlink()
    (folder / "next.pub").write_bytes(signing.generate_key()[1])
    assert refusal(PluginStore(store.root, None, Trust.of(folder, True, ())).load, signed) == "SIGNER_UNKNOWN"
    assert refusal(PluginStore(store.root, None, Trust.of(None, False, ("acme-*",))).load, signed) == (
        "PLUGIN_NOT_ALLOWED"
    )


@pytest.mark.parametrize("harm", ["edit", "edit with its old times", "add", "remove", "link"])
def test_files_touched_after_installation_are_found_at_the_next_start(tmp_path, harm):
    import os

    store = opened(tmp_path)
    build = store.add_wheel(make_wheel(tmp_path, files={f"{PACKAGE}/data.txt": "12345"}))
    store.check(build.generation)
    file = build.folder / PACKAGE / "data.txt"
    found = file.stat()
    match harm:
        case "edit" | "edit with its old times":
            file.write_text("54321")
            if "times" in harm:
                os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
        case "add":
            (build.folder / PACKAGE / "more.py").write_text("")
        case "remove":
            file.unlink()
        case "link":
            file.unlink()
            file.symlink_to("/dev/null")
    with pytest.raises(DataLoss) as caught:
        store.check(build.generation)
    assert caught.value.reason == "PLUGIN_TAMPERED"


@pytest.fixture
def index(tmp_path):
    """A package index on loopback (PEP 503) over a folder `files`; yields (its URL, the folder)."""
    files = tmp_path / "files"
    files.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/simple/"):
                name = self.path.split("/")[2].replace("-", "_")
                links = "".join(f'<a href="/{p.name}">{p.name}</a>' for p in files.glob(f"{name}-*.whl"))
                self.send_response(200 if links else 404)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(f"<html><body>{links}</body></html>".encode())
            else:
                super().do_GET()

        def log_message(self, *_):
            """Not on the test's output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=files))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple/", files
    server.shutdown()
    server.server_close()


def test_an_index_is_asked_where_there_is_no_folder_and_never_when_signatures_are_required(tmp_path, index, keys):
    url, files = index
    make_wheel(files, "1.0")
    store = opened(tmp_path, Sources(None, url))
    generation = store.add_named("hypersdk-format-swapped", "hypersdk-format-swapped").generation
    assert (generation.version, generation.provenance.via, generation.provenance.sha256) == ("1.0", "index", "")
    strict = opened(tmp_path, Sources(None, url), keys=keys[1], required=True)
    assert refusal(strict.add_named, "hypersdk-format-swapped", "hypersdk-format-swapped") == "SIGNATURE_MISSING"
    choosy = opened(tmp_path, Sources(None, url), allowed=("acme-*",))
    assert refusal(choosy.add_named, "hypersdk-format-swapped", "hypersdk-format-swapped") == "PLUGIN_NOT_ALLOWED"


def test_a_name_in_the_folder_is_never_taken_from_the_index_however_high_its_version_there(tmp_path, index):
    url, files = index
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "1.0")
    make_wheel(files, "99.0")
    store = opened(tmp_path, Sources(folder, url))
    build = store.add_named("hypersdk-format-swapped", "hypersdk-format-swapped")
    assert (build.generation.version, build.generation.provenance.via) == ("1.0", "wheels")
    assert refusal(store.add_named, "hypersdk-format-swapped>=2", "hypersdk-format-swapped") == "WHEEL_VERSION_MISSING"


def test_a_need_that_lies_in_the_folder_is_never_taken_from_the_index_either(tmp_path, index):
    url, files = index
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "1.0", distribution="inner-need", component="need")
    make_wheel(files, "99.0", distribution="inner-need", component="need")
    make_wheel(files, "3.0", distribution="outer-need", component="outer")
    store = opened(tmp_path, Sources(folder, url))
    build = store.add_wheel(make_wheel(tmp_path, requires=("inner-need", "outer-need")))
    found = sorted(p.name for p in build.folder.glob("*.dist-info"))
    assert found == [
        "hypersdk_format_swapped-1.0.dist-info", "inner_need-1.0.dist-info", "outer_need-3.0.dist-info"
    ]  # fmt: skip
    wants_more = make_wheel(tmp_path, "2.0", requires=("inner-need>=2",))
    assert refusal(store.add_wheel, wants_more) == "INSTALL_FAILED"


def test_with_signatures_required_needs_must_be_signed_too(tmp_path, index, keys):
    url, files = index
    key, trusted = keys
    folder = tmp_path / "wheels"
    folder.mkdir()
    need = make_wheel(folder, "1.0", distribution="inner-need", component="need")
    make_wheel(files, "1.0", distribution="inner-need", component="need")
    store = opened(tmp_path, Sources(folder, url), keys=trusted, required=True)
    wheel = sign(make_wheel(tmp_path, requires=("inner-need",)), key)
    assert refusal(store.add_wheel, wheel) == "INSTALL_FAILED"
    sign(need, key)
    store.add_wheel(wheel)
    named = sign(make_wheel(folder, "4.0"), key)
    assert store.add_named("hypersdk-format-swapped", "hypersdk-format-swapped").generation.version == "4.0"
    assert named.name
