"""Draining ends after the last answer is out, not after it was decided: a process that leaves then loses none."""

import socket
import threading

from hypersdk.wire.rpc import Method, Peer


class SlowSocket:
    """A socket whose writes take until they are let go."""

    def __init__(self, inner):
        self.inner = inner
        self.let_go = threading.Event()
        self.writing = threading.Event()

    def sendall(self, data):
        self.writing.set()
        self.let_go.wait(10)
        self.inner.sendall(data)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_a_request_is_in_flight_until_its_answer_is_on_the_wire():
    ours, theirs = socket.socketpair()
    slow = SlowSocket(theirs)
    in_a_thread = Method(lambda request: {"done": True}, lambda job: threading.Thread(target=job).start())
    peer = Peer(slow, {"work": in_a_thread})
    threading.Thread(target=peer.run, daemon=True).start()
    asker = Peer(ours, {})
    threading.Thread(target=asker.run, daemon=True).start()
    results = []
    caller = threading.Thread(target=lambda: results.append(asker.request("work", {}, 10)))
    caller.start()
    assert slow.writing.wait(10)
    assert not peer.drain(0.0)
    slow.let_go.set()
    caller.join(10)
    assert peer.drain(10)
    assert results == [{"done": True}]
    asker.close()
