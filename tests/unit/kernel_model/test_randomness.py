"""Bytes drawn in advance are given out once."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from hypersdk_kernel.model.names import check_id, new_id
from hypersdk_kernel.model.randomness import new_uuid, random_bytes


def test_no_bytes_are_given_out_twice_whoever_asks():
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: random_bytes(16), range(5000)))
    assert len(set(drawn)) == 5000
    assert {len(each) for each in drawn} == {16}


def test_ids_and_uuids_are_of_their_forms_and_all_different():
    ids = {new_id("job") for _ in range(2000)}
    assert len(ids) == 2000
    assert all(check_id(each, "id") for each in ids)
    uuids = {uuid.UUID(new_uuid()) for _ in range(2000)}
    assert len(uuids) == 2000
    assert {(made.version, made.variant) for made in uuids} == {(7, uuid.RFC_4122)}


def test_names_made_later_come_later_so_that_indexes_grow_at_their_end(monkeypatch):
    made = []
    for millisecond in (1, 2, 35, 36, 1_795_000_000_000, 1_795_000_000_001, 2_800_000_000_000):
        monkeypatch.setattr("time.time_ns", lambda at=millisecond: at * 1_000_000)
        made.append((new_id("job"), new_uuid()))
    assert made == sorted(made)
    assert [each[1] for each in made] == sorted(each[1] for each in made)
    assert int(made[4][1].replace("-", "")[:12], 16) == 1_795_000_000_000
