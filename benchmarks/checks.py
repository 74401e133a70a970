"""The table of targets: what a gateway of this kind has to reach, and what the runs say to it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from gateways import Lag
from measuring import Run
from scenarios import IDLE, IDLE_LOAD, RATE, Results

FIVE_MS = 0.005


@dataclass(frozen=True)
class Row:
    """One line of the table; ``met`` is ``None`` where nothing is asked."""

    check: str
    target: str
    gemproxy: str
    met: bool | None
    nginx: str = ""
    ratio: str = ""


def rows(results: Results) -> list[Row]:
    """A row for each target whose scenario was run."""
    return [
        row
        for scenario, check in CHECKS
        if not scenario or scenario in results.gemproxy
        for row in [check(results)]
    ]


def _unary(results: Results) -> Row:
    times = _ratio(results, "ns_c32")
    return Row(
        "CPU a request, 32 clients (`ns_c32`)",
        "6x nginx",
        f"{_mid(results.gemproxy['ns_c32'], _cpu_us):.0f} us",
        times <= 6,
        f"{_mid(results.nginx['ns_c32'], _cpu_us):.1f} us",
        f"{times:.1f}x",
    )


def _dialect(scenario: str, title: str) -> Callable[[Results], Row]:
    """A row of one dialect, in comparison with chat where that was run too."""

    def row(results: Results) -> Row:
        load = results.gemproxy[scenario][0].load
        per = _cpu_us_per_chunk if load.chunks else _cpu_us
        chat = results.gemproxy.get("st_burst" if load.chunks else "ns_c32")
        cost, floor = _mid(results.gemproxy[scenario], per), _mid(results.nginx[scenario], per)
        told = f"{cost:.1f} us"
        if chat is not None:
            told += f", {cost / _mid(chat, per):.2f} of chat's"
        return Row(
            f"{title} (`{scenario}`)", "", told, None, f"{floor:.1f} us", f"{cost / floor:.1f}x"
        )

    return row


def _burst(results: Results) -> Row:
    return _chunk_row(results, "st_burst", "CPU a chunk, 100 in one write (`st_burst`)", 6)


def _paced(results: Results) -> Row:
    return _chunk_row(results, "st_paced", "CPU a chunk, 100, 10 ms apart (`st_paced`)", 45)


def _chunk_row(results: Results, scenario: str, title: str, target: float) -> Row:
    cost = _mid(results.gemproxy[scenario], _cpu_us_per_chunk)
    return Row(
        title,
        f"{target:.0f} us",
        f"{cost:.1f} us",
        cost <= target,
        f"{_mid(results.nginx[scenario], _cpu_us_per_chunk):.1f} us",
        f"{_ratio(results, scenario):.1f}x",
    )


def _first_chunk(results: Results) -> Row:
    bare = _mid(results.upstream["st_ttfc"], _first_chunk_ms)
    ours = _mid(results.gemproxy["st_ttfc"], _first_chunk_ms) - bare
    floor = _mid(results.nginx["st_ttfc"], _first_chunk_ms) - bare
    return Row(
        "time added to the first chunk, one client, median (`st_ttfc`)",
        "0.5 ms",
        f"{ours:.2f} ms",
        ours <= 0.5,
        f"{floor:.2f} ms",
        f"{ours / floor:.1f}x" if floor > 0 else "",
    )


def _on_its_way(results: Results) -> Row:
    """The median run, since one disturbed run has a p99 of its own."""
    return Row(
        "time a chunk is on its way, median / p99 (`st_paced`)",
        "",
        _chunk_delays(results.gemproxy["st_paced"]),
        None,
        _chunk_delays(results.nginx["st_paced"]),
    )


def _chunk_delays(runs: list[Run]) -> str:
    p50, p99 = (
        median(run.counted["mark_delay_us"][quantile] for run in runs) / 1000
        for quantile in ("p50", "p99")
    )
    return f"{p50:.2f} / {p99:.2f} ms"


def _all_served(results: Results) -> Row:
    runs = results.every_run()
    failed = sum(run.failed for _, run in runs)
    complaints = "; ".join(f"{name}: {run.complaint}" for name, run in runs if run.complaint)
    total = sum(run.completed for _, run in runs)
    said = f"{failed} of {total:,} not: {complaints}" if failed else f"all of {total:,}"
    return Row("every answer 200 and no stream lost", "all", said, failed == 0)


def _many_clients(results: Results) -> Row:
    runs = results.gemproxy["ns_c256"]
    return Row(
        "256 clients at once (`ns_c256`)",
        "all served",
        f"{_served(runs)}, {_mid(runs, _rate):,.0f} a second,"
        f" slowest {max(run.latency_ms('max') for run in runs):.0f} ms",
        not any(run.failed for run in runs),
        f"{_mid(results.nginx['ns_c256'], _rate):,.0f} a second",
        f"{_ratio(results, 'ns_c256'):.1f}x",
    )


def _idle_connections(results: Results) -> Row:
    [run] = results.gemproxy[IDLE]
    held, wanted = run.counted["still_open"], run.load.clients
    allowed = "" if wanted == IDLE_LOAD.clients else f" of {wanted:,} that this machine allows"
    each = run.growth_mb * 1024 / max(1, run.counted["opened"])
    return Row(
        f"10,000 idle connections, a request on {run.load.rate} of them a second (`{IDLE}`)",
        "all held and served",
        f"{held:,} held{allowed}, {_served([run])}, p99 {run.latency_ms('p99'):.1f} ms,"
        f" {each:.1f} KB a connection",
        held == IDLE_LOAD.clients and not run.failed,
    )


def _rate_1000(results: Results) -> Row:
    [run] = results.gemproxy[RATE]
    p99 = run.latency_ms("p99")
    return Row(
        f"p99 at 1,000 requests a second (`{RATE}`)",
        "below 5 ms",
        f"{p99:.2f} ms, median {run.latency_ms('p50'):.2f}, slowest {run.latency_ms('max'):.1f}",
        p99 < 5 and not run.failed,
    )


def _big_body_cpu(results: Results) -> Row:
    cost = _mid(results.gemproxy["big_c1"], _cpu_us) / 1000
    return Row(
        "CPU of a 5 MB body (`big_c1`)",
        "10 ms",
        f"{cost:.1f} ms",
        cost <= 10,
        f"{_mid(results.nginx['big_c1'], _cpu_us) / 1000:.1f} ms",
        f"{_ratio(results, 'big_c1'):.1f}x",
    )


def _big_body_memory(results: Results) -> Row:
    growth = max(run.growth_mb for run in results.gemproxy["big_c1"])
    return Row(
        "peak growth of the resident memory with 5 MB bodies",
        "30 MB",
        f"{growth:.0f} MB",
        growth <= 30,
        f"{max(run.growth_mb for run in results.nginx['big_c1']):.0f} MB",
    )


def _memory(results: Results) -> Row:
    idle, after = results.rss_idle_mb, results.rss_after_mb
    return Row(
        "resident memory at the start / after the load",
        "70 / 110 MB",
        f"{idle:.0f} / {after:.0f} MB",
        idle <= 70 and after <= 110,
    )


def _reactor(results: Results) -> Row:
    [run] = results.gemproxy[RATE]
    lag = run.lag or Lag({0.0: 0.0})
    saturated = max(run.lag.longest for _, run in results.every_run() if run.lag)
    return Row(
        "longest block of the reactor at 1,000 requests a second",
        "5 ms",
        f"within {lag.longest * 1000:g} ms ({lag.ticks} looks);"
        f" {saturated * 1000:g} ms under the closed loops",
        lag.longest <= FIVE_MS,
    )


def _key_pool(results: Results) -> Row:
    state, worst = max(results.key_pool.items(), key=lambda item: item[1].together)
    return Row(
        f"choice of a key and record of its outcome, 10,000 keys ({state}, the worst state)",
        "20 us",
        f"{worst.together:.1f} us",
        worst.together <= 20,
    )


#: The scenario that a check needs, empty for all of them, and the check.
CHECKS: tuple[tuple[str, Callable[[Results], Row]], ...] = (
    ("ns_c32", _unary),
    ("st_burst", _burst),
    ("st_paced", _paced),
    ("st_ttfc", _first_chunk),
    ("st_paced", _on_its_way),
    (RATE, _rate_1000),
    ("ns_c256", _many_clients),
    (IDLE, _idle_connections),
    ("messages_c32", _dialect("messages_c32", "CPU of a message, 32 clients")),
    ("messages_burst", _dialect("messages_burst", "CPU a chunk of a message")),
    ("responses_c32", _dialect("responses_c32", "CPU of a response, 32 clients")),
    ("responses_burst", _dialect("responses_burst", "CPU a chunk of a response")),
    ("native_c32", _dialect("native_c32", "CPU of a native call, 32 clients")),
    ("native_burst", _dialect("native_burst", "CPU a chunk of a native stream")),
    ("big_c1", _big_body_cpu),
    ("big_c1", _big_body_memory),
    ("", _memory),
    (RATE, _reactor),
    ("", _key_pool),
    ("", _all_served),
)


def _ratio(results: Results, scenario: str) -> float:
    """The median of each round's own ratio: what disturbs a round disturbs both of its runs."""
    pairs = zip(results.gemproxy[scenario], results.nginx[scenario], strict=True)
    return median(ours.cpu_us / floor.cpu_us for ours, floor in pairs)


def _served(runs: list[Run]) -> str:
    failed = sum(run.failed for run in runs)
    return f"{failed} NOT served" if failed else "all served"


def _mid(runs: Iterable[Run], figure: Callable[[Run], float]) -> float:
    return median(map(figure, runs))


def _cpu_us(run: Run) -> float:
    return run.cpu_us


def _cpu_us_per_chunk(run: Run) -> float:
    return run.cpu_us_per_chunk


def _first_chunk_ms(run: Run) -> float:
    return run.first_chunk_ms


def _rate(run: Run) -> float:
    return run.rate
