"""What goes over the wire, where it may go, and what each answer means."""

import base64
import dataclasses
import datetime as dt
import hashlib
import hmac
import json
import socket
import ssl

import pytest
from hypersdk.errors import DeadlineExceeded, HyperError, InvalidArgument, PermissionDenied, ResourceExhausted
from hypersdk.testing.notifier_contract import SAMPLE
from hypersdk_notifier_webhook import WebhookNotifier
from hypersdk_notifier_webhook.body import body_of
from hypersdk_notifier_webhook.notifier import _seconds
from hypersdk_notifier_webhook.target import is_public, target_of
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = "a-key-of-some-length"
NOW = 1_800_000_100.9


def notifier(url, secrets=None, **config):
    made = WebhookNotifier(clock=lambda: NOW)
    given = {"url": url, "allow_http": True, "allow_private": True, "timeout_s": 1.0, **config}
    made.configure(given, secrets or {})
    return made


def failure(made, notification=SAMPLE):
    with pytest.raises(HyperError) as caught:
        made.send(notification)
    return caught.value


def test_the_body_is_a_cloud_event(hook):
    notifier(hook.url()).send(SAMPLE)
    headers, body = hook.requests[0]
    document = json.loads(body)
    assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert document == {
        "specversion": "1.0", "id": SAMPLE.id, "source": "hypersdk", "type": "dev.hypersdk.job.succeeded",
        "subject": "jobs/nightly-42", "time": "2027-01-15T08:00:00.250000Z", "datacontenttype": "application/json",
        "revision": 42, "actor": "runner", "subscription": "subscriptions/ops", "attempt": 1,
        "data": {"job": {"id": "nightly-42", "labels": {"team": "blue"}}},
    }  # fmt: skip


def test_the_signature_covers_id_time_and_body(hook):
    notifier(hook.url(), {"secret": KEY}).send(SAMPLE)
    headers, body = hook.requests[0]
    signed = f"{SAMPLE.id}.1800000100.".encode() + body
    expected = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-timestamp"] == "1800000100"
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_without_a_secret_nothing_is_signed_and_without_authorization_none_is_sent(hook):
    notifier(hook.url()).send(SAMPLE)
    headers, _ = hook.requests[0]
    assert "webhook-signature" not in headers
    assert "Authorization" not in headers


def test_the_authorization_is_sent_as_it_is(hook):
    notifier(hook.url(), {"authorization": "Bearer abc"}).send(SAMPLE)
    assert hook.requests[0][0]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("status", "retryable", "reason"),
    [
        (400, False, "WEBHOOK_REFUSED"), (401, False, "WEBHOOK_REFUSED"), (404, False, "WEBHOOK_REFUSED"),
        (408, True, "WEBHOOK_FAILED"), (429, True, "WEBHOOK_BUSY"), (500, True, "WEBHOOK_FAILED"),
        (502, True, "WEBHOOK_FAILED"), (503, True, "WEBHOOK_FAILED"), (599, True, "WEBHOOK_FAILED"),
        (301, False, "WEBHOOK_REDIRECTED"), (307, False, "WEBHOOK_REDIRECTED"), (304, False, "WEBHOOK_REDIRECTED"),
    ],
)  # fmt: skip
def test_each_status_means_again_or_never(hook, status, retryable, reason):
    hook.answer = (status, {})
    error = failure(notifier(hook.url()))
    assert (error.retryable, error.reason, error.metadata["status"]) == (retryable, reason, str(status))


def test_a_redirect_is_not_followed(hook):
    hook.answer = (302, {"Location": hook.url()})
    failure(notifier(hook.url()))
    assert hook.seen == 1


def test_retry_after_is_handed_on(hook):
    hook.answer = (429, {"Retry-After": "120"})
    assert failure(notifier(hook.url())).retry_after_s == 120.0
    hook.answer = (503, {"Retry-After": "30"})
    assert failure(notifier(hook.url())).retry_after_s == 30.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-5", None), ("١٢", None), ("9" * 70, None),
        ("0", 0.0), (" 7 ", 7.0), ("99999999", 86_400.0),
        ("Fri, 15 Jan 2027 08:03:00 GMT", pytest.approx(79.1)), ("Fri, 15 Jan 1999 08:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_a_retry_after_header_is_seconds_or_a_date_or_nothing(text, seconds):
    assert _seconds(text, NOW) == seconds


@settings(deadline=None)
@given(st.text(max_size=64))
def test_no_retry_after_header_breaks_anything(text):
    assert _seconds(text, NOW) is None or 0 <= _seconds(text, NOW) <= 86_400


def test_an_answer_that_drips_ends_with_the_deadline(hook):
    hook.drip = True
    assert isinstance(failure(notifier(hook.url(), timeout_s=0.4)), DeadlineExceeded)


def test_an_answer_that_is_no_http_is_retryable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def babble():
            peer, _ = server.accept()
            peer.recv(65536)
            peer.sendall(b"SSH-2.0-OpenSSH\r\n")
            peer.close()

        thread = threading.Thread(target=babble)
        thread.start()
        error = failure(notifier(f"http://127.0.0.1:{server.getsockname()[1]}/"))
        thread.join()
    assert (error.reason, error.retryable) == ("WEBHOOK_UNREACHABLE", True)


# Where it may go


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    ],
)  # fmt: skip
def test_addresses_inside_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address):
    assert is_public(address)


def test_a_private_address_is_refused_unless_it_is_meant(hook):
    error = failure(notifier(hook.url(), allow_private=False))
    assert isinstance(error, PermissionDenied)
    assert error.reason == "WEBHOOK_ADDRESS_REFUSED"
    assert hook.seen == 0


def test_a_name_with_one_private_address_is_refused_whole(monkeypatch):
    rows = [(socket.AF_INET, 1, 6, "", (a, 443)) for a in ("8.8.8.8", "169.254.169.254")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: rows)
    with pytest.raises(PermissionDenied):
        target_of({"url": "https://rebind.example/"}).addresses()


def test_the_name_is_resolved_once_and_the_judged_address_is_connected_to(hook, monkeypatch):
    asked = []
    row = (socket.AF_INET, 1, 6, "", ("127.0.0.1", hook.port))

    def resolve(host, port, *a, **k):
        asked.append(host)
        return [row]

    made = notifier(f"http://hooks.example:{hook.port}/x")
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    made.send(SAMPLE)
    assert [host for host in asked if host == "hooks.example"] == ["hooks.example"]
    assert hook.requests[0][0]["Host"] == f"hooks.example:{hook.port}"


@pytest.mark.parametrize(
    "url",
    [
        "http://x.example/", "ftp://x.example/", "https://", "https:///x", "https://u:p@x.example/", "https://x:99999/",
        "https://x.example/a b", "https://x.example/\r\nX: y", "https://x.example/ü", "https://[::1", "javascript:1",
    ],
)  # fmt: skip
def test_urls_that_lead_elsewhere_are_refused(url):
    with pytest.raises(InvalidArgument) as caught:
        target_of({"url": url})
    assert caught.value.reason == "CONFIG_INVALID"
    assert caught.value.violations[0].field == "config.url"


@pytest.mark.parametrize(
    "secrets", [{"secret": "short"}, {"authorization": "a\r\nX-Evil: 1"}, {"authorization": "ünicode"}]
)
def test_secrets_that_cannot_be_used_are_refused_without_being_repeated(secrets):
    made = WebhookNotifier()
    with pytest.raises(InvalidArgument) as caught:
        made.configure({"url": "https://x.example/"}, secrets)
    assert not any(value in caught.value.message for value in secrets.values())


def test_a_delivery_id_with_a_line_break_is_no_header(hook):
    error = failure(notifier(hook.url()), dataclasses.replace(SAMPLE, id="a\r\nX-Evil: 1"))
    assert (error.reason, error.retryable) == ("WEBHOOK_REFUSED", False)
    assert hook.seen == 0


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5)))
def test_any_payload_is_one_ascii_json_document(payload):
    body = body_of(dataclasses.replace(SAMPLE, payload=payload))
    assert json.loads(body)["data"] == payload
    assert body.isascii()


# TLS


@pytest.fixture
def certificate(tmp_path):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hook")])
    now = dt.datetime.now(dt.UTC)
    import ipaddress

    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (tmp_path / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return tmp_path


@pytest.fixture
def tls_hook(certificate, make_hook):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return make_hook(context)


def test_https_is_spoken_with_a_certificate_that_is_trusted(tls_hook, certificate):
    notifier(tls_hook.url("https"), ca_file=str(certificate / "cert.pem")).send(SAMPLE)
    assert tls_hook.received() == [SAMPLE.id]


def test_a_certificate_that_is_not_trusted_ends_it_before_anything_is_sent(tls_hook):
    error = failure(notifier(tls_hook.url("https")))
    assert (error.reason, error.retryable) == ("WEBHOOK_CERTIFICATE_INVALID", True)
    assert tls_hook.seen == 0


def test_a_ca_file_that_is_none_is_a_wrong_configuration(tmp_path):
    (tmp_path / "ca.pem").write_text("not a certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(InvalidArgument):
            notifier("https://x.example/", ca_file=str(path))


def test_too_many_requests_is_its_own_class(hook):
    hook.answer = (429, {})
    assert isinstance(failure(notifier(hook.url())), ResourceExhausted)
