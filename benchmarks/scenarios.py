"""What is run: the loads, the order in which gateways meet them, and what came of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Self

from gateways import Daemon, Gateway, start_daemon, start_nginx, start_upstream
from keypool import Cost, costs
from measuring import Load, Run, measure
from processes import allow_descriptors

MB = 1_000_000
PACE = 0.01

#: Run against nginx and gemproxy in turn, so that a noisy neighbour meets both.
COMPARED = {
    "ns_c32": Load(clients=32),
    "ns_c256": Load(clients=256),
    "st_ttfc": Load(clients=1, chunks=5, pace=PACE),
    "st_burst": Load(clients=8, chunks=100),
    "st_paced": Load(clients=16, chunks=100, pace=PACE),
    "big_c1": Load(clients=1, body=5 * MB, requests=20),
    "messages_c32": Load(clients=32, dialect="messages"),
    "messages_burst": Load(clients=8, chunks=100, dialect="messages"),
    "responses_c32": Load(clients=32, dialect="responses"),
    "responses_burst": Load(clients=8, chunks=100, dialect="responses"),
    "native_c32": Load(clients=32, dialect="native"),
    "native_burst": Load(clients=8, chunks=100, dialect="native"),
}
#: Run against gemproxy alone, once and longer.
RATE, RATE_LOAD = "rate_1000", Load(clients=64, rate=1000)
#: The same, against a daemon of its own: its growth is the memory that connections take.
IDLE, IDLE_LOAD = "idle_10000", Load(clients=10_000, rate=200)
LONGER = 3
#: Open files of a daemon besides its clients' connections.
OTHER_DESCRIPTORS = 500
NAMES = (*COMPARED, RATE, IDLE)
#: What a gateway is warmed up with, on each path.
WARM_UP = (Load(clients=8), Load(clients=4, chunks=100))
WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Plan:
    """How much is run: ``rounds`` of the comparisons, each run ``seconds`` long."""

    rounds: int = 3
    seconds: float = 4.0
    only: tuple[str, ...] = NAMES


@dataclass
class Results:
    """Every run by its scenario; memory of the daemon in MB; the key pool by its state."""

    gemproxy: dict[str, list[Run]] = field(default_factory=dict)
    nginx: dict[str, list[Run]] = field(default_factory=dict)
    upstream: dict[str, list[Run]] = field(default_factory=dict)
    rss_idle_mb: float = 0.0
    rss_after_mb: float = 0.0
    key_pool: dict[str, Cost] = field(default_factory=dict)

    def every_run(self) -> list[tuple[str, Run]]:
        """The daemon's."""
        return [(name, run) for name, runs in self.gemproxy.items() for run in runs]


class Session:
    """The upstream and whatever is started in front of it; a context manager that stops them."""

    def __init__(
        self, folder: Path, say: Callable[[str], None], seconds: float = WARM_UP_SECONDS
    ) -> None:
        self._folder = folder
        self._say = say
        self._warm_up = min(seconds, WARM_UP_SECONDS)
        self._running: list[Gateway] = []
        #: Open files that each program may have.
        self.descriptors = allow_descriptors()
        self.upstream = start_upstream(folder)
        self._running.append(self.upstream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for gateway in reversed(self._running):
            gateway.stop()

    def nginx(self) -> Gateway:
        """The floor: bytes handed through."""
        gateway = start_nginx(self._folder, self.upstream)
        self._running.append(gateway)
        return gateway

    def daemon(self, name: str = "daemon", keys: int = 3, **proxy: int | str) -> Daemon:
        """A fresh one, with nothing in its state."""
        gateway = start_daemon(self._folder / name, self.upstream, keys, **proxy)
        self._running.append(gateway)
        return gateway

    def stop(self, gateway: Gateway) -> None:
        """Before the session ends, for what is no longer needed."""
        self._running.remove(gateway)
        gateway.stop()

    def run(self, gateway: Gateway, title: str, load: Load) -> Run:
        """One run, told as it ends."""
        run = measure(gateway, self.upstream, load, self._folder)
        complaint = f"; NOT SERVED: {run.complaint}" if run.complaint else ""
        self._say(
            f"{title:12} {gateway.program.name:9} {run.completed:7} requests,"
            f" {run.cpu_us:9.1f} us each, p99 {run.latency_ms('p99'):8.2f} ms,"
            f" others {run.foreign:4.2f} CPUs{complaint}"
        )
        return run

    def warm_up(self, *gateways: Gateway, dialects: Collection[str] = ("chat",)) -> None:
        """Connections, caches and pages that the first requests of a process pay for."""
        for gateway, dialect, load in product(gateways, sorted(dialects), WARM_UP):
            warm_up = replace(load, seconds=self._warm_up, dialect=dialect)
            measure(gateway, self.upstream, warm_up, self._folder)


def run_scenarios(session: Session, plan: Plan) -> Results:
    results = Results()
    daemon = session.daemon()
    results.rss_idle_mb = daemon.program.rss_mb()
    _compare(session, plan, results, daemon)
    if RATE in plan.only:
        load = replace(RATE_LOAD, seconds=plan.seconds * LONGER)
        results.gemproxy[RATE] = [session.run(daemon, RATE, load)]
    results.rss_after_mb = daemon.program.rss_mb()
    session.stop(daemon)
    if IDLE in plan.only:
        results.gemproxy[IDLE] = [_hold_idle_connections(session, plan)]
    results.key_pool = costs()
    return results


def _hold_idle_connections(session: Session, plan: Plan) -> Run:
    clients = min(IDLE_LOAD.clients, session.descriptors - OTHER_DESCRIPTORS)
    load = replace(IDLE_LOAD, clients=clients, seconds=plan.seconds * LONGER)
    daemon = session.daemon("idle")
    session.warm_up(daemon)
    run = session.run(daemon, IDLE, load)
    session.stop(daemon)
    return run


def _compare(session: Session, plan: Plan, results: Results, daemon: Daemon) -> None:
    nginx = session.nginx()
    chosen = [name for name in COMPARED if name in plan.only]
    session.warm_up(nginx, daemon)
    session.warm_up(daemon, dialects={COMPARED[name].dialect for name in chosen} - {"chat"})
    for _ in range(plan.rounds):
        for name in chosen:
            load = replace(COMPARED[name], seconds=plan.seconds)
            results.nginx.setdefault(name, []).append(session.run(nginx, name, load))
            results.gemproxy.setdefault(name, []).append(session.run(daemon, name, load))
            if name == "st_ttfc":
                bare = session.run(session.upstream, name, load)
                results.upstream.setdefault(name, []).append(bare)
    session.stop(nginx)
