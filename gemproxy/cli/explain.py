"""``gemproxy explain REQUEST-ID``: the story of one request.

Every attempt with its key and outcome, who was charged, and which keys were skipped and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gemproxy.cli.admin_address import add_url_argument
from gemproxy.cli.admin_client import connect
from gemproxy.cli.exits import ExitStatus
from gemproxy.cli.tables import counted, moment, printable, show, table
from gemproxy.pool.eligibility import Reason
from gemproxy.pool.outcome import Charge, Verdict

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from gemproxy.pool.status import SkippedKey
    from gemproxy.telemetry.history import AttemptExplanation, RequestExplanation, RequestRecord

#: The sentence for each verdict; its subject is the key.
_VERDICTS = {
    Verdict.SUCCESS: "served the request",
    Verdict.REQUEST: "got Google's answer that the request is invalid",
    Verdict.BLOCKED: "got Google's answer that the contents are blocked",
    Verdict.QUOTA_MINUTE: "had used up its quota per minute",
    Verdict.QUOTA_DAY: "had used up its quota per day",
    Verdict.KEY: "was refused by Google",
    Verdict.MODEL_DENIED: "may not use this model",
    Verdict.FORBIDDEN: "was forbidden this model",
    Verdict.SERVICE: "met an error of Google's own",
    Verdict.NETWORK: "got no answer from Google",
    Verdict.HOST: "could not be used: this machine is out of descriptors, ports or threads",
    Verdict.BROKEN_OFF: "began to serve the request, and Google broke off",
    Verdict.REGION: "got Google's answer that this host's region is not served",
    Verdict.UNUSABLE: "got an answer with nothing in it",
    Verdict.CLIENT_GONE: "was still at work when the client left",
}
_REASONS = {
    Reason.DISABLED: "disabled",
    Reason.CIRCUIT_OPEN: "breaker open",
    Reason.HALF_OPEN_BUSY: "on trial with another request",
    Reason.COOLING_DOWN: "cooling down",
    Reason.OVER_LIMIT: "over its own limits",
    Reason.QUOTA_REACHED: "at a known quota of its project",
    Reason.MODEL_NOT_ALLOWED: "not for this model",
    Reason.LOW_HEALTH: "in poor health",
    Reason.ALREADY_TRIED: "tried already",
}
#: Why no key was asked, by the outcome of a request without attempts.
_REFUSALS = {
    "insufficient_quota": "the budget of the client is spent",
    "rate_limit_exceeded": "a limit of the client, or the proxy's limit of requests in flight,"
    " was reached",
}
_HEADERS = ("#", "KEY", "OUTCOME", "STATUS", "CHARGED TO", "MS", "PASSED OVER")
_NUMBERS = ("#", "STATUS", "MS")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the request's id and the options of the daemon's address."""
    parser.epilog = (
        "The id is in the answer's header x-request-id and on each line of the log. Requests are"
        " found as long as their records are kept. Times are in UTC."
    )
    parser.add_argument("request_id", metavar="REQUEST-ID")
    add_url_argument(parser)


def run(arguments: Namespace) -> int:
    """Explain one request. Raises :class:`Refused` and :class:`ConfigError`."""
    explanation = connect(arguments).explain(arguments.request_id)
    if arguments.json:
        show(msgspec.json.encode(explanation).decode())
        return ExitStatus.OK
    for line in _story(explanation):
        show(printable(line))
    if explanation.attempts:
        show("\n" + _table(explanation))
    return ExitStatus.OK


def _story(explanation: RequestExplanation) -> Iterator[str]:
    request = explanation.request
    yield _beginning(request)
    if request.queue_ms:
        yield f"It waited {request.queue_ms:.0f} ms for a key."
    for number, attempt in enumerate(explanation.attempts, 1):
        yield f"{number}. {_sentence(attempt, request)}{_aside(attempt)}"
    if not explanation.attempts:
        why = _REFUSALS.get(request.outcome)
        yield f"No key was asked: {why}." if why else "No key was asked."
    yield _end(request)


def _beginning(request: RequestRecord) -> str:
    wanted = "a stream" if request.stream else "an answer"
    model = f" for {wanted} of {request.model}" if request.model else ""
    return f"Request {request.id} came at {moment(request.time)} to {request.route}{model}."


def _sentence(attempt: AttemptExplanation, request: RequestRecord) -> str:
    if attempt.key is None:
        return f"No key was left ({attempt.outcome})."
    words = _words(attempt.outcome)
    return (
        f"The key {attempt.key} {words} ({_seen(attempt)}) after {attempt.duration_ms:.0f} ms; "
        f"charged to {_payer(attempt, request)}.{_message(attempt)}"
    )


def _seen(attempt: AttemptExplanation) -> str:
    """``quota_minute, status 429 RESOURCE_EXHAUSTED, quota …``."""
    seen = [attempt.outcome]
    if attempt.status:
        google = [attempt.google_status] if attempt.google_status else []
        seen.append(" ".join([f"status {attempt.status}", *google]))
    seen += [attempt.google_reason] if attempt.google_reason else []
    seen += [f"quota {attempt.quota_id}"] if attempt.quota_id else []
    return ", ".join(seen)


def _message(attempt: AttemptExplanation) -> str:
    """Google's message, or the reason why there is none."""
    if not attempt.message:
        return ""
    googles = attempt.status is not None and attempt.outcome != Verdict.NETWORK.value
    return f" {'Google said' if googles else 'Why'}: {attempt.message}"


def _aside(attempt: AttemptExplanation) -> str:
    names = ", ".join(map(_skipped, attempt.passed_over))
    reason = ""
    if attempt.chosen_for == "conversation":
        reason = " It was chosen because its conversation prefers it."
    elif attempt.chosen_for:
        reason = f" Only keys of the project of {attempt.chosen_for} could serve."
    return f"{reason} Passed over: {names}." if names else reason


def _words(outcome: str) -> str:
    try:
        return _VERDICTS[Verdict(outcome)]
    except ValueError:
        return "came to an end"


def _payer(attempt: AttemptExplanation, request: RequestRecord) -> str:
    if attempt.charged_to is Charge.KEY:
        return f"the key {attempt.key}"
    if attempt.charged_to is Charge.MODEL:
        return f"the model {request.model}" if request.model else "the model"
    return "nobody"


def _skipped(passed: SkippedKey) -> str:
    until = f" until {moment(passed.until)}" if passed.until else ""
    return f"{passed.key} ({_REASONS[passed.reason]}{until})"


def _end(request: RequestRecord) -> str:
    attempts = counted(request.attempts, "attempt")
    sentence = (
        f"The client got status {request.status} ({request.outcome}) after {attempts} and "
        f"{request.duration_ms:.0f} ms"
    )
    if request.first_byte_ms is not None:
        sentence += f", the first byte after {request.first_byte_ms:.0f} ms"
    if request.prompt_tokens is not None and request.completion_tokens is not None:
        sentence += f"; {request.prompt_tokens} tokens in, {request.completion_tokens} out"
    return f"{sentence}."


def _table(explanation: RequestExplanation) -> str:
    rows = [
        (
            str(number),
            attempt.key or "-",
            attempt.outcome,
            str(attempt.status or ""),
            _payer(attempt, explanation.request),
            f"{attempt.duration_ms:.0f}",
            "\n".join(map(_skipped, attempt.passed_over)),
        )
        for number, attempt in enumerate(explanation.attempts, 1)
    ]
    return table(_HEADERS, rows, _NUMBERS)
