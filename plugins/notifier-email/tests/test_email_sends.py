"""Mails as a server gets them, and what its answers mean."""

import dataclasses

import pytest
from hypersdk.errors import DeadlineExceeded, HyperError, InvalidArgument
from hypersdk.testing.notifier_contract import SAMPLE
from hypersdk_notifier_email import EmailNotifier
from hypersdk_notifier_email.message import address, message_of, one_line, subject_template
from hypothesis import given, settings
from hypothesis import strategies as st

PASSWORD = "planted-mail-password"


def notifier(mailbox, secrets=None, **config):
    made = EmailNotifier()
    base = {
        "host": "localhost", "port": mailbox.port, "from": "HyperSDK <sdk@example.com>", "security": "none",
        "to": ["Ops <ops@example.com>", "dev@example.com"], "timeout_s": 1.0,
    }  # fmt: skip
    made.configure({**base, **config}, secrets or {})
    return made


def failure(made, notification=SAMPLE):
    with pytest.raises(HyperError) as caught:
        made.send(notification)
    return caught.value


def test_a_mail_says_what_happened(mailbox):
    notifier(mailbox).send(SAMPLE)
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[hypersdk] job.succeeded jobs/nightly-42"
    assert (mail["From"], mail["To"]) == ("HyperSDK <sdk@example.com>", "Ops <ops@example.com>, dev@example.com")
    assert mail["Message-ID"] == f"<{SAMPLE.id}@example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.recipients == ["ops@example.com", "dev@example.com"]
    text = mail.get_content()
    assert "jobs/nightly-42" in text
    assert '"team": "blue"' in text


def test_the_subject_is_a_template(mailbox):
    notifier(mailbox, subject="$$ $subscription: $actor, $time, $revision").send(SAMPLE)
    assert mailbox.mails[0]["Subject"] == "$ subscriptions/ops: runner, 2027-01-15T08:00:00Z, 42"


@pytest.mark.parametrize("text", ["a\r\nBcc: v@example.com", "a\nTo: x@y.z", "a\u2028b", "\u202egpj.exe", "\ud800"])
def test_a_strangers_name_is_no_header(mailbox, text):
    notifier(mailbox).send(dataclasses.replace(SAMPLE, subject=text, actor=text))
    (mail,) = mailbox.mails
    assert mail["Bcc"] is None
    assert mail["To"] == "Ops <ops@example.com>, dev@example.com"
    assert text not in mail["Subject"]


@settings(deadline=None)
@given(st.text(max_size=2000), st.text(max_size=200))
def test_no_text_makes_more_headers_or_lines_too_long(subject, kind):
    mail = message_of(
        dataclasses.replace(SAMPLE, subject=subject, type=kind), address("a@example.com", "from"),
        [address("b@example.com", "to")], subject_template("$type $subject"),
    )  # fmt: skip
    data = mail.as_bytes()
    head = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    names = [line.partition(b":")[0] for line in head if line[:1] not in b" \t"]
    assert sorted(names) == sorted({name.lower(): name for name in names}.values())
    assert len(names) == 10
    assert max(map(len, data.split(b"\r\n"))) <= 998


@settings(deadline=None)
@given(st.text())
def test_one_line_is_one_line(text):
    assert len(one_line(text).splitlines() or [""]) == 1


@pytest.mark.parametrize(
    "text",
    ["", "nobody", "a@b@c", "a@example.com\r\nRCPT TO:<x@y.z>", "a b@example.com", "<>", "a@exämple.com", "a@x, b@y"],
)
def test_what_is_not_one_address_is_refused(text):
    with pytest.raises(InvalidArgument) as caught:
        address(text, "from")
    assert caught.value.reason == "CONFIG_INVALID"


@pytest.mark.parametrize("text", ["$password", "$", "${type", "a\r\nb"])
def test_a_template_with_other_placeholders_is_refused(text):
    with pytest.raises(InvalidArgument):
        subject_template(text)


def test_a_password_is_never_sent_in_the_clear(mailbox):
    for secrets, config in (({"password": PASSWORD}, {"user": "x"}), ({}, {"user": "x"}), ({"password": PASSWORD}, {})):
        with pytest.raises(InvalidArgument) as caught:
            notifier(mailbox, secrets, **config)
        assert PASSWORD not in caught.value.message


def test_starttls_and_auth(start, tls, certificate, checked):
    mailbox = start(tls_context=tls, require_starttls=True, auth_required=True, **checked)
    made = notifier(
        mailbox, {"password": PASSWORD}, security="starttls", user="sdk", ca_file=str(certificate / "cert.pem")
    )
    made.send(SAMPLE)
    (mail,) = mailbox.mails
    assert mail.over_tls is not None
    assert mail.user == b"sdk"


def test_tls_from_the_first_byte(start, tls, certificate):
    mailbox = start(ssl_context=tls)
    notifier(mailbox, security="tls", ca_file=str(certificate / "cert.pem")).send(SAMPLE)
    assert mailbox.received() == [SAMPLE.id]


def test_a_wrong_password_is_for_good_and_not_told(start, tls, certificate, checked):
    mailbox = start(tls_context=tls, **checked)
    made = notifier(
        mailbox, {"password": "wrong-planted"}, security="starttls", user="sdk", ca_file=str(certificate / "cert.pem")
    )
    error = failure(made)
    assert (error.reason, error.retryable) == ("EMAIL_AUTH_FAILED", False)
    assert "wrong-planted" not in str(error.to_json())


def test_a_server_without_starttls_gets_no_mail(mailbox):
    error = failure(notifier(mailbox, security="starttls"))
    assert (error.reason, error.retryable) == ("EMAIL_TLS_UNSUPPORTED", False)
    assert mailbox.mails == []


def test_a_certificate_that_is_not_trusted_ends_it(start, tls):
    mailbox = start(tls_context=tls)
    error = failure(notifier(mailbox, security="starttls"))
    assert (error.reason, error.retryable) == ("EMAIL_CERTIFICATE_INVALID", True)
    assert mailbox.mails == []


def test_one_recipient_refused_for_good_does_not_keep_it_from_the_others(mailbox):
    mailbox.answers["dev@example.com"] = "550 unknown"
    receipt = notifier(mailbox).send(SAMPLE)
    assert receipt.details == {"recipients_refused": "1"}
    assert mailbox.mails[0].recipients == ["ops@example.com"]


def test_one_recipient_put_off_puts_off_all(mailbox):
    mailbox.answers["dev@example.com"] = "450 greylisted"
    error = failure(notifier(mailbox))
    assert (error.reason, error.retryable) == ("EMAIL_DEFERRED", True)


@pytest.mark.parametrize(("answer", "retryable"), [("550 no", False), ("450 later", True)])
def test_all_recipients_refused(mailbox, answer, retryable):
    mailbox.answers = {"dev@example.com": answer, "ops@example.com": answer}
    assert failure(notifier(mailbox)).retryable is retryable


def test_a_session_that_drips_ends_with_its_deadline():
    import socket
    import threading

    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            peer, _ = server.accept()
            peer.sendall(b"220 hello\r\n")
            while not stop.wait(0.05):
                try:
                    peer.sendall(b"250-x\r\n")
                except OSError:
                    break
            peer.close()

        thread = threading.Thread(target=drip)
        thread.start()

        class Port:
            port = server.getsockname()[1]

        error = failure(notifier(Port, host="127.0.0.1", timeout_s=0.3))
        stop.set()
        thread.join()
    assert isinstance(error, DeadlineExceeded)
