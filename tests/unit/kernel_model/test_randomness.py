"""Bytes drawn in advance are given out once."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from hypersdk_kernel.model.names import check_id, new_id
from hypersdk_kernel.model.randomness import random_bytes, random_uuid


def test_no_bytes_are_given_out_twice_whoever_asks():
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: random_bytes(16), range(5000)))
    assert len(set(drawn)) == 5000
    assert {len(each) for each in drawn} == {16}


def test_ids_and_uuids_are_of_their_forms_and_all_different():
    ids = {new_id("job") for _ in range(2000)}
    assert len(ids) == 2000
    assert all(check_id(each, "id") for each in ids)
    made = uuid.UUID(random_uuid())
    assert (made.version, made.variant) == (4, uuid.RFC_4122)
