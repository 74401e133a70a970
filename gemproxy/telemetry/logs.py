"""Write events of ``twisted.logger`` as one line each, for journald or for people.

An event has fixed words and fields: ``log.info("attempt finished", key="a", seconds=0.4)``. Output
of ``twisted.python.log``, ``warnings`` and ``print`` passes through the same sink. Every event
gives exactly one line, is scrubbed of secrets, and never raises.

``twistd`` makes its own observer after ``makeService`` has returned, unless the application
brings one (``twisted.application.app.AppLogger.start``). :class:`LoggedServices` brings it: it is
the service that ``makeService`` returns, and twistd adds it to the application.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from twisted.application.service import MultiService
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogBeginner,
    globalLogPublisher,
)
from twisted.python.components import Componentized
from twisted.python.reflect import safe_repr
from zope.interface import implementer

from gemproxy.core.errors import StartRefused
from gemproxy.telemetry.destinations import PRIORITIES, Destination, standard
from gemproxy.telemetry.line_writer import LineOutput
from gemproxy.telemetry.log_rate_limit import INTERVAL, RepeatLimiter, Suppressed
from gemproxy.telemetry.timestamps import timestamp

if TYPE_CHECKING:
    from gemproxy.config.settings import LoggingSettings
    from gemproxy.telemetry.scrubbing import Scrubber

RANKS: Final = {level: rank for rank, level in enumerate(PRIORITIES)}

#: journald splits lines at 48 KiB; text is cut where a line would be longer than this.
_LONGEST_LINE: Final = 32 * 1024
_LONGEST_TEXT: Final = 4000
_DEEPEST: Final = 3
_MOST_ITEMS: Final = 50
#: The range of numbers that every JSON reader accepts; NaN and infinity are outside.
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1

#: Fields that Twisted adds to an event, beside those that begin with ``log_``.
_LEGACY: Final = frozenset(
    {"time", "message", "system", "isError", "failure", "why", "format", "logLevel", "printed"}
)
#: Formats without fixed text: the formatted message decides what is a repetition.
_PASSED_ON: Final = frozenset({"{log_text}", "{log_io}", ""})
_OWN_FIELDS: Final = frozenset({"time", "level", "logger", "event", "error", "traceback"})

#: Twisted's warning that it cannot write a cache of its plugins. An installed program cannot write
#: there and does not need the cache, so an operator need not see it.
_NO_PLUGIN_CACHE: Final = "Unable to write to plugin cache"

#: Types that are safe as they are; an int may be too long for JSON.
_PLAIN: Final = frozenset({str, bool, float, type(None)})

_encode: Final = msgspec.json.Encoder().encode

Record = dict[str, Any]
_T = TypeVar("_T")


class Line(msgspec.Struct, kw_only=True, gc=False):
    """An event at ``info`` for each request; a subclass defines its fields.

    The event's text is fixed. This costs a third of an event of ``twisted.logger``: 5 us instead of
    17, a third of it in the kernel.
    """

    time: str = ""
    level: str = "info"
    logger: str
    event: str

    def as_event(self, now: float) -> LogEvent:
        """The line as an event for any observer."""
        return {
            "log_level": LogLevel.info,
            "log_time": now,
            "log_namespace": self.logger,
            "log_format": self.event,
            **{
                name: value
                for name in self.__struct_fields__[len(_HEAD) :]
                if (value := getattr(self, name)) is not msgspec.UNSET
            },
        }


_HEAD: Final = Line.__struct_fields__


def publish(line: Line, now: float) -> None:
    """Pass ``line`` to Twisted's observers; ``now`` is epoch seconds."""
    globalLogPublisher(line.as_event(now))


@implementer(ILogObserver)
class LogSink:
    """An observer that writes scrubbed lines to ``destination``; use it from any thread.

    Accepts a text stream as well. A slow reader blocks nobody.
    """

    def __init__(
        self,
        settings: LoggingSettings,
        scrubber: Scrubber,
        destination: Destination | IO[str],
    ) -> None:
        self.scrubber = scrubber
        if not isinstance(destination, Destination):
            destination = standard(destination, os.environ)
        self._head = destination.head
        self._output = LineOutput(destination, self._note_of_lost)
        self._limiter = RepeatLimiter()
        self._lock = threading.RLock()
        self._is_observer = False
        self.apply(settings)
        #: Writes a JSON line at ``info`` unchanged; see :meth:`takes_json`.
        self.write_json = self._output.write if self._head is None else self._write_info

    @property
    def lost(self) -> int:
        """The number of lines that could not be written."""
        return self._output.lost

    def show(self, text: str) -> None:
        """Write ``text`` for people unchanged; it may show what the log must not contain."""
        self._output.write(text.encode())

    def apply(self, settings: LoggingSettings) -> None:
        """Apply level and format, also after a reload."""
        self._threshold = RANKS[settings.level]
        self._line = _FORMATS[settings.format]
        self._is_json = settings.format == "json"
        self._takes_json = self._is_json and RANKS["info"] >= self._threshold

    def __call__(self, event: LogEvent) -> None:
        """Write the event unless its level is too low or its rate limit is reached."""
        self._is_observer = True
        level = _level(event)
        if RANKS[level] < self._threshold:
            return
        now = _time(event)
        if not _is_limited(event, level):
            self.tell_suppressed(now)
        elif not self.admits(*_kind(event), now):
            return
        self._write(_record(event, level, now))

    def admits(self, logger: str, event: str, now: float) -> bool:
        """Whether to write this line or only to count it."""
        self.tell_suppressed(now)
        with self._lock:
            return self._limiter.admit(logger, event, now)

    def tell_suppressed(self, now: float) -> None:
        """Write the counts of suppressed lines of ended intervals."""
        if not self._limiter.is_due(now):
            return
        with self._lock:
            notes = self._limiter.ended(now)
        for note in notes:
            self._write(_note(note, now))

    def write(self, line: Line, now: float) -> None:
        """Write ``line`` as its event would be written; ``now`` is epoch seconds.

        It bypasses Twisted's publisher if this sink is the only observer. With another observer
        (``twistd --logger``) the line is published instead.
        """
        if not self._is_observer:
            publish(line, now)
            return
        if RANKS["info"] < self._threshold:
            return
        data = self._quick_line(line, now)
        if data is None or self._limiter.is_due(now):
            self(line.as_event(now))
        else:
            self.write_json(data)

    def takes_json(self, now: float) -> bool:
        """Whether a line at ``info`` may go to :meth:`write_json` at ``now``.

        That is so if nothing has to be written before it, there is no other observer, and the
        format is JSON. The line must not contain a secret.
        """
        return self._is_observer and self._takes_json and not self._limiter.is_due(now)

    def _quick_line(self, line: Line, now: float) -> bytes | None:
        """The line if it is plain JSON without secrets, as nearly always."""
        if not self._is_json:
            return None
        line.time = timestamp(now)
        try:
            data = _encode(line)
        except (TypeError, ValueError, OverflowError):
            return None
        if len(data) >= _LONGEST_LINE or self.scrubber.finds(data):
            return None
        return data + b"\n"

    def _write(self, record: Record) -> None:
        self._output.write(self._line_of(record))

    def _write_info(self, line: bytes) -> None:
        head = self._head
        self._output.write(line if head is None else head("info") + line)

    def _line_of(self, record: Record) -> bytes:
        line = self._safe_line(record).encode("utf-8", "backslashreplace")
        return line if self._head is None else self._head(record["level"]) + line

    def _note_of_lost(self, count: int) -> bytes:
        return self._line_of(
            {
                "time": timestamp(time.time()),
                "level": "warn",
                "logger": "gemproxy.telemetry.line_writer",
                "event": "log lines were dropped, since nothing took them",
                "count": count,
            }
        )

    def _safe_line(self, record: Record) -> str:
        line = self._line(record)
        if len(line) <= _LONGEST_LINE and not self.scrubber.finds(line.encode()):
            return line
        scrub = self.scrubber.scrub
        return self._line(
            {
                name if name in _OWN_FIELDS else scrub(name): _cleaned(value, scrub)
                for name, value in record.items()
            }
        )


class LoggedServices(MultiService):
    """The services of a twistd application, and the one observer of its log."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self._sink = sink
        #: Prints why a start is refused. Standard error is not ``sys.stderr``, which twistd has
        #: made a part of the log.
        self.tell: Callable[[str], None] = _print_error

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802 - Twisted's name
        """Attach to ``parent``; a twistd application gets the observer as a component."""
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._sink)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:  # noqa: N802 - Twisted's name
        """Start; print the reason of a refused start at the terminal, which twistd does not do."""
        with _telling_why(self.tell):
            super().privilegedStartService()

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """See :meth:`privilegedStartService`."""
        with _telling_why(self.tell):
            super().startService()


@contextmanager
def _telling_why(tell: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except StartRefused as refused:
        tell(refused.reason)
        raise


def _print_error(reason: str) -> None:
    print(f"gemproxy: {reason}", file=sys.__stderr__)


def install(
    settings: LoggingSettings,
    scrubber: Scrubber,
    destination: Destination | IO[str],
    *,
    begin: bool = False,
) -> LogSink:
    """The sink of a process.

    Under twistd pass it to :class:`LoggedServices`. Other programs set ``begin``: logging begins at
    once, and ``print`` still writes to the terminal.
    """
    sink = LogSink(settings, scrubber, destination)
    if begin:
        globalLogBeginner.beginLoggingTo([sink], redirectStandardIO=False)
    return sink


def json_line(record: Record) -> str:
    """The record as one JSON object and a line break."""
    try:
        return _encode(record).decode() + "\n"
    except (TypeError, ValueError, OverflowError):
        # A lone surrogate, or a subclass of a plain type.
        return json.dumps(record, default=safe_repr) + "\n"


def text_line(record: Record) -> str:
    """The record for people: time, level, logger, event, then its fields."""
    time, level, logger, event = (record[name] for name in ("time", "level", "logger", "event"))
    fields = [
        f"{name}={_shown(value)}"
        for name, value in record.items()
        if name not in {"time", "level", "logger", "event"}
    ]
    line = " ".join((time, f"{level:<8}", f"[{logger}]", event, *fields))
    return _one_line(line) + "\n"


_FORMATS: Final[dict[str, Callable[[Record], str]]] = {"json": json_line, "text": text_line}


def _record(event: LogEvent, level: str, now: float) -> Record:
    logger = event.get("log_system") or event.get("log_namespace") or "-"
    record: Record = {
        "time": timestamp(now),
        "level": level,
        "logger": logger if type(logger) is str else _attempt(lambda: str(logger)),
        "event": _message(event),
    }
    # A legacy event has only Twisted's own fields.
    ignored = _LEGACY if "log_text" in event or "isError" in event else ()
    for name, value in event.items():
        if name[:4] != "log_" and name not in ignored:
            plain = value if type(value) in _PLAIN else _attempt(partial(_plain, value))
            record[f"{name}_" if name in _OWN_FIELDS else name] = plain
    failure = event.get("log_failure")
    if failure is not None:
        record["error"] = _attempt(lambda: f"{failure.type.__name__}: {failure.getErrorMessage()}")
        record["traceback"] = _attempt(lambda: str(failure.getTraceback()))
    return record


def _note(note: Suppressed, now: float) -> Record:
    return {
        "time": timestamp(now),
        "level": "warn",
        "logger": note.logger or "-",
        "event": "repeated events suppressed",
        "repeated": note.event,
        "count": note.count,
        "interval_seconds": INTERVAL,
    }


def _message(event: LogEvent) -> str:
    text = event.get("log_format")
    # A fixed text needs no formatting, which is most of the cost of a line.
    if isinstance(text, str) and "{" not in text and "}" not in text:
        return text
    return _attempt(lambda: formatEvent(event))


def _level(event: LogEvent) -> str:
    words = event.get("format")
    if isinstance(words, str) and words.startswith(_NO_PLUGIN_CACHE):
        return "debug"
    level = getattr(event.get("log_level"), "name", "info")
    return level if level in RANKS else "info"


def _is_limited(event: LogEvent, level: str) -> bool:
    """Whether the event is rate-limited.

    Events of this program at ``info`` declare whether clients can cause them; others are limited.
    """
    if RANKS[level] >= RANKS["warn"] or event.get("log_limited") is True:
        return True
    room = event.get("log_namespace")
    return not (isinstance(room, str) and room.startswith("gemproxy"))


def _kind(event: LogEvent) -> tuple[str, str]:
    words = event.get("log_format") or ""
    if words in _PASSED_ON:
        words = _message(event)[:200]
    return _attempt(lambda: str(event.get("log_namespace"))), _attempt(lambda: str(words))


def _time(event: LogEvent) -> float:
    time = event.get("log_time")
    return float(time) if isinstance(time, int | float) else datetime.now(UTC).timestamp()


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON; the ``repr`` of other types."""
    if isinstance(value, Enum):
        return _plain(value.value, depth + 1)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if _LEAST <= value <= _MOST else safe_repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if depth >= _DEEPEST:
        return safe_repr(value)
    if isinstance(value, Mapping):
        return {
            str(name): _plain(item, depth + 1) for name, item in list(value.items())[:_MOST_ITEMS]
        }
    if isinstance(value, list | tuple | AbstractSet):
        return [_plain(item, depth + 1) for item in list(value)[:_MOST_ITEMS]]
    return safe_repr(value)


def _cleaned(value: Any, scrub: Callable[[str], str]) -> Any:
    """``value`` with each text scrubbed, then cut to length."""
    if isinstance(value, dict):
        return {scrub(name): _cleaned(item, scrub) for name, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, scrub) for item in value]
    if isinstance(value, str):
        return _cut(scrub(value))
    # A number may be a secret too.
    text = str(value)
    scrubbed = scrub(text)
    return value if scrubbed == text else scrubbed


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return (
            value
            if value and " " not in value and '"' not in value
            else json.dumps(value, ensure_ascii=False)
        )
    return json.dumps(value, ensure_ascii=False, default=safe_repr)


def _one_line(text: str) -> str:
    """``text`` with control characters escaped, so that no value can begin a new line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _attempt(render: Callable[[], _T]) -> _T | str:
    """The result of ``render``; if it raises, a placeholder, so that the line is still written."""
    try:
        return render()
    except Exception as error:  # noqa: BLE001 - foreign code runs here, and a log must not raise
        return f"(cannot be rendered: {type(error).__name__})"
