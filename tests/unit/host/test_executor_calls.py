"""What an executor's host makes of calls, and of what a plugin answers."""

import pytest
from hypersdk.errors import HyperError
from hypersdk.host.executor import METHODS
from hypersdk.host.request import Call
from hypersdk.plugin import Executor, Node, Order, OrderStatus, Placement
from hypersdk.plugin.executor import MAX_ORDER_BYTES
from hypersdk.plugin.provider import Health


class Fake(Executor):
    answer: object = OrderStatus(Placement.PENDING, "n1", "waits")

    def configure(self, config, secrets):
        pass

    def health(self):
        return Health(True)

    def submit(self, order):
        self.order = order
        return self.answer

    def status(self, reference):
        return self.answer

    def cancel(self, reference):
        self.cancelled = reference

    def nodes(self):
        return [Node("n1", True, {"cpus": 2.0}, {"cpus": 1.0})]


def call(fake, method, **message):
    return METHODS[method](fake, Call("executor/fake", {}, "connections/fake", message))


def test_an_order_reaches_the_plugin_and_its_status_the_kernel():
    fake = Fake()
    answer = call(fake, "Submit", reference="u-1", agent='{"a": 1}', placement={"site": "hq"})
    assert answer == {"placement": "pending", "node": "n1", "message": "waits"}
    assert fake.order == Order("u-1", '{"a": 1}', {"site": "hq"})
    assert call(fake, "Reattach", reference="u-1") == call(fake, "Status", reference="u-1") == answer
    assert call(fake, "Cancel", reference="u-1") == {}
    assert fake.cancelled == "u-1"
    (node,) = call(fake, "Nodes")["nodes"]
    assert node == {"name": "n1", "alive": True, "total": {"cpus": 2.0}, "free": {"cpus": 1.0}}


@pytest.mark.parametrize(
    "change",
    [{"reference": ""}, {"reference": "../x"}, {"reference": "x" * 129}, {"reference": 3}, {"agent": ""},
     {"agent": "a\nb"}, {"agent": "x" * (MAX_ORDER_BYTES + 1)}, {"placement": ["a"]}, {"placement": {"a": 1}},
     {"placement": {str(n): "" for n in range(65)}}],
)  # fmt: skip
def test_a_wrong_order_never_reaches_the_plugin(change):
    fake = Fake()
    with pytest.raises(HyperError):
        call(fake, "Submit", **{"reference": "u-1", "agent": "{}", "placement": {}, **change})
    assert not hasattr(fake, "order")


@pytest.mark.parametrize("answer", [None, "running", {"placement": "running"}])
def test_an_answer_that_is_no_status_is_the_plugins_fault(answer):
    fake = Fake()
    fake.answer = answer
    with pytest.raises(HyperError) as caught:
        call(fake, "Status", reference="u-1")
    assert caught.value.reason == "PLUGIN_RESULT_INVALID"
