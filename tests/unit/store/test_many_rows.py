"""Many rows by one statement: what goes in comes out, on either store."""

import sqlalchemy
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.tables import attempts, job_history

HARD = 'quote " back \\ slash, line\nbreak, snow ☃, {"json": "\\u0000"}, %(x)s :x \x7f'


def history(number):
    return {
        "job_id": f"j{number}", "revision": (1 << 53) + number, "task": HARD[:63], "state": "failed", "owner": "",
        "labels": '{"a":"' + "b" * number + '"}', "end_time": 1764100000.123456 + number / 7, "day": number,
        "wait_s": None if number % 2 else 0.1, "run_s": 1e-7, "attempts": 1, "bytes_read": 1 << 60,
        "bytes_written": 0, "reason": "",
    }  # fmt: skip


def attempt(number, body):
    return {"job_id": "j", "number": number, "state": "running", "start_time": 0.1 + number, "body": body}


async def test_rows_with_every_kind_of_value_are_added_changed_and_removed_by_one_statement_each(database):
    store = await Store.open(database.backend(), ManualClock())
    try:
        def add(tx):
            for number in range(300):
                tx.insert(job_history, history(number))
            for number in range(3):
                tx.insert(attempts, attempt(number, HARD))

        await store.write(add)
        found = await store.read(lambda conn: conn.execute(sqlalchemy.select(job_history)).mappings().all())
        by_id = {row["job_id"]: row for row in found}
        assert len(by_id) == 300
        for number in (0, 1, 299):
            wanted = history(number)
            assert {**by_id[f"j{number}"], "labels": None} == {**wanted, "labels": None}
            assert by_id[f"j{number}"]["labels"] == {"a": "b" * number}
        await store.write(
            lambda tx: tx.update(
                attempts, ("job_id", "number"),
                [{"job_id": "j", "number": n, "body": f"{HARD}{n}", "start_time": n / 3} for n in (0, 2)],
            )
        )
        await store.write(lambda tx: tx.delete(attempts, ("job_id", "number"), [attempt(1, "")]))
        await store.write(lambda tx: tx.delete(attempts, ("job_id", "number"), []))
        left = await store.read(
            lambda conn: conn.execute(
                sqlalchemy.select(attempts.c.number, attempts.c.body, attempts.c.start_time).order_by(attempts.c.number)
            ).all()
        )
        assert [tuple(row) for row in left] == [(0, f"{HARD}0", 0.0), (2, f"{HARD}2", 2 / 3)]
    finally:
        await store.close()
