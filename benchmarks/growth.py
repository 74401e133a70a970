"""How the cost grows with keys, clients, chunks of a stream and the size of a body."""

from dataclasses import dataclass

from gateways import Daemon, Gateway
from measuring import Load, Run
from scenarios import MB, Session

KEYS = (10, 100, 1_000, 10_000)
CLIENTS = (1, 8, 32, 128, 512, 1_000)
CHUNKS = (10, 100, 1_000)
BODIES = {"1 KB": 1_000, "100 KB": 100_000, "1 MB": MB, "5 MB": 5 * MB, "20 MB": 20 * MB}
#: Of one size of body; a closed loop of one client runs no longer than the others.
REQUESTS_WITH_A_BODY = 300
#: The default would refuse the largest body with 413.
ROOM_FOR_BODIES = 32 * MB


@dataclass(frozen=True)
class Series:
    """A table: one line for each size that was tried."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def run_growth(session: Session, seconds: float) -> list[Series]:
    nginx = session.nginx()
    daemon = session.daemon("growth")
    session.warm_up(nginx, daemon)
    series = [
        _keys(session, seconds),
        _clients(session, seconds, nginx, daemon),
        _chunks(session, seconds, nginx, daemon),
    ]
    session.stop(daemon)
    series.append(_bodies(session, seconds, nginx))
    session.stop(nginx)
    return series


def _keys(session: Session, seconds: float) -> Series:
    return Series(
        "Keys",
        ("keys", "CPU a request, 32 clients", "requests a second", "resident memory"),
        tuple(_keys_line(session, seconds, count) for count in KEYS),
    )


def _keys_line(session: Session, seconds: float, count: int) -> tuple[str, ...]:
    daemon = session.daemon(f"keys-{count}", keys=count)
    session.warm_up(daemon)
    run = session.run(daemon, f"{count} keys", Load(clients=32, seconds=seconds))
    session.stop(daemon)
    memory = f"{run.rss_after_mb:.0f} MB"
    return (f"{count:,}", f"{run.cpu_us:.0f} us", f"{run.rate:,.0f}", memory + _failures(run))


def _clients(session: Session, seconds: float, nginx: Gateway, daemon: Daemon) -> Series:
    lines = []
    for count in CLIENTS:
        load = Load(clients=count, seconds=seconds)
        floor, run = _pair(session, f"{count} clients", load, nginx, daemon)
        p50, p99 = (f"{run.latency_ms(quantile):.1f} ms" for quantile in ("p50", "p99"))
        lines.append(
            (f"{count:,}", *_costs(run, floor), f"{run.rate:,.0f}", p50, p99 + _failures(run))
        )
    columns = ("clients", "CPU a request", "ratio to nginx", "requests a second", "p50", "p99")
    return Series("Clients", columns, tuple(lines))


def _chunks(session: Session, seconds: float, nginx: Gateway, daemon: Daemon) -> Series:
    lines = []
    for count in CHUNKS:
        load = Load(clients=8, chunks=count, seconds=seconds)
        floor, run = _pair(session, f"{count} chunks", load, nginx, daemon)
        chunk = f"{run.cpu_us_per_chunk:.1f} us"
        lines.append((f"{count:,}", *_costs(run, floor), chunk + _failures(run)))
    columns = ("chunks, in one write", "CPU a stream", "ratio to nginx", "CPU a chunk")
    return Series("Chunks of a stream", columns, tuple(lines))


def _bodies(session: Session, seconds: float, nginx: Gateway) -> Series:
    daemon = session.daemon("bodies", maxPayloadSize=ROOM_FOR_BODIES)
    session.warm_up(daemon)
    lines = []
    for title, size in BODIES.items():
        load = Load(clients=1, body=size, requests=REQUESTS_WITH_A_BODY, seconds=seconds)
        floor, run = _pair(session, title, load, nginx, daemon)
        growth = f"{run.growth_mb:.0f} MB"
        lines.append(
            (title, *_costs(run, floor), f"{run.latency_ms('p50'):.1f} ms", growth + _failures(run))
        )
    session.stop(daemon)
    columns = (
        "body",
        "CPU a request",
        "ratio to nginx",
        "p50, one client",
        "peak growth of memory",
    )
    return Series("Size of a request's body", columns, tuple(lines))


def _pair(
    session: Session, title: str, load: Load, nginx: Gateway, daemon: Daemon
) -> tuple[Run, Run]:
    return session.run(nginx, title, load), session.run(daemon, title, load)


def _costs(run: Run, floor: Run) -> tuple[str, str]:
    cost = f"{run.cpu_us / 1000:.1f} ms" if run.cpu_us >= 10_000 else f"{run.cpu_us:.0f} us"
    return cost, f"{run.cpu_us / floor.cpu_us:.1f}x"


def _failures(run: Run) -> str:
    return f" ({run.failed} of {run.completed} NOT served)" if run.failed else ""
