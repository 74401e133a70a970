"""How long searches of recorded requests and of usage take, and how large the database becomes.

``python benchmarks/records.py [DAYS] [A_DAY]``: thirty days of 100,000 requests, unless told
otherwise, in the database of a temporary folder, and the usage of 200 clients by day and by hour
for as long as it is kept. Fails if a search takes more than 200 ms, or a record more bytes than
``RECORD_BYTES``. Times are CPU time, so that other programs on the machine do not matter.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gemproxy.pool.snapshot import PoolSnapshot
from gemproxy.state.kinds import Retention
from gemproxy.state.model import USAGE_DAY, USAGE_HOUR, RecordRow, State, UsageRow
from gemproxy.state.record_query import MICROSECONDS, RecordQuery, digest_of
from gemproxy.state.sqlite.store import RECORD_BYTES, SQLiteStateStore
from gemproxy.state.usage_query import UsageQuery

DAYS, A_DAY = 30, 100_000
#: 2026-11-01 in UTC.
BEGIN = 1_793_491_200
MOST_SECONDS = 0.2
SAVED_AT_ONCE = 5_000
#: Clients that ask each of three models with another project.
CLIENTS, MODELS = 200, 3
USAGE_DAYS, USAGE_HOURS = 400, 35 * 24
#: As the records of usual requests are.
DATA = (
    '[["req_%032x","2026-11-01T00:00:00.123456Z","/v1/chat/completions",null,false,0,"",null,1,812.5,'
    '700.2,1200,340,0,null,"",0,120,0.001234567,0.0],[["key-%d","success",200,"key",812.1,[],null,'
    "null,null,null,null,{},null]]]"
)


def rows(first: int, number: int, step: int, dice: random.Random) -> tuple[RecordRow, ...]:
    """Some requests, one in fifty of which failed, and one in 20,000 in a rare way."""
    made = []
    for n in range(first, first + number):
        draw = dice.random()
        rare = draw < 0.00005
        failed = draw < 0.02
        key = dice.randrange(500)
        made.append(
            RecordRow(
                BEGIN * MICROSECONDS + n * step,
                digest_of(f"req_{n:032x}"),
                "rare-client" if rare else f"client-{dice.randrange(20)}",
                "chat",
                "rare-model" if rare else f"model-{dice.randrange(5)}",
                f"key-{key}",
                500 if rare else 503 if failed else 200,
                "internal_error" if rare else "service" if failed else "success",
                DATA % (n, key),
            )
        )
    return tuple(made)


def measure(folder: Path, days: int = DAYS, a_day: int = A_DAY) -> dict[str, float]:
    """Fill a database and search it; gives seconds by search, and ``bytes`` of a record."""
    path = folder / "records.db"
    dice = random.Random(14)
    number, step = days * a_day, 86400 * MICROSECONDS // a_day
    store = SQLiteStateStore(path, Retention(record_days=days * 2.0, records=number))
    for first in range(0, number, SAVED_AT_ONCE):
        now = BEGIN + first * step / MICROSECONDS
        some = rows(first, min(SAVED_AT_ONCE, number - first), step, dice)
        store.save(State(PoolSnapshot(now), records=some))
    end = BEGIN * MICROSECONDS + number * step
    third = number // 3
    searches = {
        "the latest": RecordQuery(100),
        "a day in the middle": RecordQuery(500, end - third * step, end - (third - a_day) * step),
        "what failed": RecordQuery(500, failed=True),
        "what failed, of one client": RecordQuery(
            500, filters={"client": ("client-3",)}, failed=True
        ),
        "a rare client": RecordQuery(500, filters={"client": ("rare-client",)}),
        "a key": RecordQuery(500, filters={"key": ("key-77",)}),
        "a client with a key": RecordQuery(
            500, filters={"client": ("client-3",), "key": ("key-77",)}
        ),
        "a model and a rare client": RecordQuery(
            500, filters={"model": ("model-1",), "client": ("rare-client",)}
        ),
        "a rare status": RecordQuery(500, statuses=((500, 500),)),
        "a status that never was": RecordQuery(500, statuses=((418, 418),)),
        "nothing of several clients": RecordQuery(
            500, filters={"client": ("client-1", "client-2"), "model": ("rare-model",)}
        ),
        "an endpoint that nobody asked": RecordQuery(500, filters={"endpoint": ("audio",)}),
        "a client and a model that never met": RecordQuery(
            500, filters={"client": ("client-3",), "model": ("rare-model",)}
        ),
        "a client at an endpoint that it never asked": RecordQuery(
            500, filters={"client": ("client-3",), "endpoint": ("audio",)}
        ),
    }
    took = {name: timed(partial(store.search, query)) for name, query in searches.items()}
    took["an id"] = timed(partial(store.find, digest_of(f"req_{third:032x}")))
    store.close()
    return took | {"bytes": path.stat().st_size / number}


def measure_usage(
    folder: Path, days: int = USAGE_DAYS, hours: int = USAGE_HOURS
) -> dict[str, float]:
    """Fill a database with usage and ask for it; gives seconds by question, and ``bytes``."""
    path = folder / "usage.db"
    store = SQLiteStateStore(path, Retention(usage_days=days))
    for period, number in ((USAGE_DAY, days), (USAGE_HOUR, hours)):
        for n in range(number):
            start = BEGIN + (number - 1 - n) * period
            usage = tuple(
                UsageRow(
                    period,
                    start,
                    f"client-{c}",
                    "chat",
                    f"model-{m}",
                    f"project-{c % 40}",
                    c + 1,
                    m,
                )
                for c in range(CLIENTS)
                for m in range(MODELS)
            )
            store.save(State(PoolSnapshot(BEGIN), usage=usage))
    month, day = 30 * USAGE_DAY, 24 * USAGE_HOUR
    questions = {
        f"usage of 30 days by {name}": UsageQuery(
            USAGE_DAY, BEGIN + days * USAGE_DAY - month, BEGIN + days * USAGE_DAY, (name,)
        )
        for name in ("client", "model", "project", "endpoint")
    }
    for name, period, number, length, by in (
        ("30 days by day", USAGE_DAY, days, month, ()),
        ("30 days by day and client", USAGE_DAY, days, month, ("client",)),
        ("7 days by hour", USAGE_HOUR, hours, 7 * day, ()),
        ("24 hours by hour and client", USAGE_HOUR, hours, day, ("client",)),
        ("1 hour by client", USAGE_HOUR, hours, USAGE_HOUR, ("client",)),
    ):
        end = BEGIN + number * period
        questions[f"usage of {name}"] = UsageQuery(period, end - length, end, by, by_time=True)
    took = {name: timed(lambda q=query: store.usage(q, ())) for name, query in questions.items()}
    store.close()
    return took | {"bytes": float(path.stat().st_size)}


def timed(search: Callable[[], object]) -> float:
    """The CPU time that ``search`` takes."""
    began = time.thread_time()
    assert search() is not None
    return time.thread_time() - began


def main() -> int:
    """Measure and print."""
    days, a_day = (int(each) for each in (*sys.argv[1:3], *(DAYS, A_DAY)[len(sys.argv[1:3]) :]))
    with tempfile.TemporaryDirectory() as folder:
        took = measure(Path(folder), days, a_day)
        usage = measure_usage(Path(folder))
    size, usage_size = took.pop("bytes"), usage.pop("bytes")
    took |= usage
    print(f"{days} days of {a_day} requests: {size:.0f} bytes a record (at most {RECORD_BYTES})")
    print(f"{USAGE_DAYS} days and {USAGE_HOURS} hours of usage: {usage_size / 2**20:.0f} MiB")
    for name, seconds in took.items():
        print(f"{seconds * 1000:8.1f} ms  {name}")
    return int(size > RECORD_BYTES or max(took.values()) > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
