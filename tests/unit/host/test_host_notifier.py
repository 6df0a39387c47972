"""The notifier's adapter: `Send` of the kernel to Notifier.send and back."""

import pytest
from hypersdk.errors import Internal, InvalidArgument
from hypersdk.host import notifier
from hypersdk.host.request import Call
from hypersdk.plugin import Health, Notification, Notifier, Receipt

MESSAGE = {
    "id": "u.7", "type": "job.failed", "subject": "jobs/x", "actor": "runner", "time_s": 1.5, "revision": 7,
    "payload": {"a": [1]}, "subscription": "subscriptions/ops", "attempt": 3,
}  # fmt: skip


class Recorder(Notifier):
    def __init__(self, answer=None):
        self.answer = answer if answer is not None else Receipt({"status": "200"})
        self.seen = []

    def configure(self, config, secrets): ...

    def health(self):
        return Health(True)

    def send(self, notification):
        self.seen.append(notification)
        return self.answer


def send(plugin, message):
    return notifier.METHODS["Send"](plugin, Call("notifier/x", {}, "connections/hook", message))


def test_every_field_of_a_notification_arrives():
    plugin = Recorder()
    assert send(plugin, MESSAGE) == {"details": {"status": "200"}}
    assert plugin.seen == [
        Notification("u.7", "job.failed", "jobs/x", "runner", 1.5, 7, {"a": [1]}, "subscriptions/ops", 3)
    ]


@pytest.mark.parametrize(
    "wrong", [{"id": ""}, {"type": ""}, {"payload": [1]}, {"payload": "x"}, {"time_s": "soon"}, {"attempt": True}]
)
def test_a_message_that_no_kernel_sends_is_refused(wrong):
    plugin = Recorder()
    with pytest.raises(InvalidArgument):
        send(plugin, MESSAGE | wrong)
    assert plugin.seen == []


@pytest.mark.parametrize("answer", ["ok", {"details": {}}, Receipt({"status": 200}), Receipt("x")])
def test_a_receipt_of_the_wrong_type_is_the_plugins_defect(answer):
    with pytest.raises(Internal) as caught:
        send(Recorder(answer), MESSAGE)
    assert caught.value.reason == "PLUGIN_RESULT_INVALID"


def test_what_a_receiver_said_is_cut():
    details = {f"k{i:03}": "v" * 10_000 for i in range(100)}
    answer = send(Recorder(Receipt(details)), MESSAGE)["details"]
    assert len(answer) == 16
    assert {len(v) for v in answer.values()} == {512}


def test_health_is_answered_as_of_other_kinds():
    assert notifier.METHODS["Health"](Recorder(), Call("notifier/x", {}))["ok"] is True
