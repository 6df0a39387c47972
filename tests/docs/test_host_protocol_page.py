"""docs/host-protocol.md: the bytes it shows are frames, and the session it shows is one that the rules allow."""

import json
import re
from pathlib import Path

from hypersdk.errors import KINDS
from hypersdk.wire.frames import Decoder

PAGE = (Path(__file__).parents[2] / "docs" / "host-protocol.md").read_text()


def test_the_frame_shown_in_hexadecimal_is_the_request_beside_it():
    shown = re.search(r"^((?:[0-9a-f]{2} ?)+)\n((?:[0-9a-f]{2} ?)+) +(\{.*\})$", PAGE, re.MULTILINE)
    assert shown is not None
    frame = bytes.fromhex(shown[1] + shown[2])
    assert list(Decoder().feed(frame)) == [json.loads(shown[3])]
    assert len(frame) == 56


def test_the_session_is_json_and_every_request_in_it_has_its_one_answer():
    block = re.search(r"\*\*A whole session\*\*.*?```\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    messages = []
    for line in block[1].splitlines():
        if line.startswith(("> ", "< ")):
            messages.append(line)
        elif line.startswith("   ") and not line.startswith("      "):
            messages[-1] += line.strip()
    asked, answered = [], []
    for text in messages:
        message = json.loads(text[2:].replace("{…}", "{}").replace("{…,", "{").replace(",…}", "}"))
        if "method" in message and "id" in message:
            asked.append(message["id"])
        elif "id" in message:
            answered.append(message["id"])
            assert ("error" in message) != ("result" in message)
            if "error" in message:
                assert message["error"]["data"]["kind"] in KINDS
    assert sorted(asked) == sorted(answered) == list(range(1, 7))
