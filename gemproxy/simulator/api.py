"""Make the script of the response to an HTTP request.

Free of Twisted and of sockets. The checks are in Google's order, as far as it is known:
credentials, path, faults of the key, JSON and its fields, the model, the rules for requests,
quotas. The answer comes last, whole or altered by a behaviour.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gemproxy.simulator import (
    answers,
    asking,
    behaviours,
    calls,
    chunks,
    embeddings,
    errors,
    generation_rules,
    models,
    rules,
    script,
    wire,
    words,
)
from gemproxy.simulator.asking import Ask
from gemproxy.simulator.behaviours import Behaviour, BehaviourError, Call, Kind
from gemproxy.simulator.config import SimulatorConfig
from gemproxy.simulator.errors import Circumstances, ErrorReply
from gemproxy.simulator.implicit_cache import ImplicitCache
from gemproxy.simulator.keyring import Keyring, KeyState
from gemproxy.simulator.models import Model
from gemproxy.simulator.quotas import Quotas
from gemproxy.simulator.recording import Exchange
from gemproxy.simulator.resources import Resources
from gemproxy.simulator.script import Framing, Pace, Step

_PATH = re.compile(r"/v1(?:beta|alpha)?/models(?:/([^/:]+)(?::(\w+))?)?")
_METHODS = {
    "generateContent": (Call.GENERATE, "GenerateContent"),
    "streamGenerateContent": (Call.STREAM, "StreamGenerateContent"),
    "countTokens": (Call.COUNT, "CountTokens"),
    "embedContent": (Call.EMBED, "EmbedContent"),
    "batchEmbedContents": (Call.EMBED, "BatchEmbedContents"),
}
_DEFAULT_PAGE = 50
_GREATEST_PAGE = 1000


class Refused(Exception):
    """The request ends with ``reply``."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class _Operation:
    """The generation or count that is asked for. ``framing`` is None if it is not a stream."""

    key: KeyState
    method: str
    name: str
    framing: Framing | None
    asked: tuple[Behaviour, ...] = ()

    @property
    def call(self) -> Call:
        return _METHODS[self.method][0]

    def about(self, behaviour: Behaviour) -> Circumstances:
        return Circumstances(
            self.name,
            _METHODS[self.method][1],
            self.key.config.key.reveal(),
            self.key.project_number,
            behaviour.parameters,
        )


@dataclass
class Api:
    """The simulated service; :meth:`respond` serves a request."""

    config: SimulatorConfig
    keyring: Keyring
    quotas: Quotas = field(default_factory=Quotas)
    resources: Resources = field(default_factory=Resources)
    served: int = 0

    def __post_init__(self) -> None:
        self.cache = ImplicitCache(self.config.implicit_cache_tokens)

    def respond(self, exchange: Exchange, body: bytes, now: float) -> Iterable[Step]:
        """The script of the answer to ``exchange``; fills in the decoded fields of ``exchange``.

        ``now`` is monotonic.
        """
        framing = _framing(exchange)
        try:
            key = self.resources.of_upload(exchange) or self._key(exchange)
            exchange.key = key.config.name
            if self.resources.serves(exchange.path):
                return self._resources(exchange, key, body)
            match = _PATH.fullmatch(exchange.path)
            if match is None:
                return script.not_found_page()
            name, method = match[1], match[2]
            if method is None:
                return self._models(exchange, key, name)
            if exchange.method != "POST" or method not in _METHODS:
                return script.not_found_page()
            exchange.model, exchange.call = name, method
            return self._operate(exchange, _Operation(key, method, name, framing), body, now)
        except Refused as refusal:
            return script.error_reply(refusal.reply, framing)

    # ---- credentials ---------------------------------------------------------------------------

    def _key(self, exchange: Exchange) -> KeyState:
        credentials = exchange.credentials
        if len(credentials) > 1:
            raise Refused(errors.multiple_credentials())
        if not credentials:
            raise Refused(errors.unregistered_caller())
        (place, secret), *_ = credentials
        if place == "authorization":
            raise Refused(errors.unauthenticated(Circumstances(rpc="GenerateContent")))
        key = self.keyring.by_secret(secret)
        if key is None:
            raise Refused(errors.api_key_invalid())
        return key

    # ---- resources of a project ----------------------------------------------------------------

    def _resources(self, exchange: Exchange, key: KeyState, body: bytes) -> Iterable[Step]:
        behaviour = key.draw(Call.RESOURCES, "", self.config.seed)
        exchange.behaviour = behaviour.name
        if behaviour.kind in {Kind.KEY_FAULT, Kind.ERROR}:
            about = Circumstances(
                "", "Resources", key.config.key.reveal(), key.project_number, behaviour.parameters
            )
            raise Refused(errors.for_behaviour(behaviour.name, about))
        if behaviour.kind is Kind.TRANSPORT:
            return script.transport_fault(behaviour)
        return self.resources.respond(exchange, key, body)

    # ---- models --------------------------------------------------------------------------------

    def _models(self, exchange: Exchange, key: KeyState, name: str | None) -> Iterable[Step]:
        if exchange.method != "GET":
            return script.not_found_page()
        exchange.call = "models.get" if name else "models.list"
        behaviour = key.draw(Call.MODELS, name or "", self.config.seed)
        exchange.behaviour = behaviour.name
        rpc = "GetModel" if name else "ListModels"
        about = Circumstances(
            name or "", rpc, key.config.key.reveal(), key.project_number, behaviour.parameters
        )
        if behaviour.kind in {Kind.KEY_FAULT, Kind.ERROR}:
            raise Refused(errors.for_behaviour(behaviour.name, about))
        if behaviour.kind is Kind.TRANSPORT:
            return script.transport_fault(behaviour)
        body = _one_model(name) if name else _page_of_models(exchange.query)
        if behaviour.kind is Kind.STREAM:
            return script.broken_unary(body, behaviour)
        return script.json_reply(body, pace=self._pace({behaviour.name: behaviour}))

    # ---- generation ----------------------------------------------------------------------------

    def _operate(
        self, exchange: Exchange, operation: _Operation, body: bytes, now: float
    ) -> Iterable[Step]:
        document = _decoded(body)
        exchange.body = document
        asked = _asked(document, body, operation.call)
        fault = next((b for b in asked if b.kind is not Kind.SHAPE), None)
        if fault is None:
            fault = operation.key.draw(operation.call, operation.name, self.config.seed)
        exchange.behaviour = fault.name
        if fault.kind is Kind.KEY_FAULT:
            raise Refused(errors.for_behaviour(fault.name, operation.about(fault)))
        model = self._model(operation)
        if operation.call is Call.COUNT:
            return self._count(document, operation, fault)
        if operation.call is Call.EMBED:
            return self._embed(document, operation, model, (fault, *asked), now)
        request = _parsed("GenerateContentRequest", document)
        self._check(request, model, operation)
        if fault.kind is Kind.ERROR:
            raise Refused(errors.for_behaviour(fault.name, operation.about(fault)))
        if fault.kind is Kind.TRANSPORT:
            return script.transport_fault(fault, operation.framing)
        self._book(operation, model, request, now)
        shapes = {b.name: b for b in (fault, *asked) if b.kind is Kind.SHAPE}
        cached = self.cache.cached_tokens(operation.key.project, model.name, request)
        ask = Ask(request, model, self._seed(request), shapes, cached)
        return self._answer(operation, ask, fault)

    def _answer(self, operation: _Operation, ask: Ask, fault: Behaviour) -> Iterable[Step]:
        self.served += 1
        try:
            whole = answers.answer(ask, words.digest(ask.seed, self.served)[:22])
        except ValueError as error:
            raise Refused(errors.invalid_argument(str(error))) from error
        headers = {"x-gemini-service-tier": whole.service_tier}
        pace = self._pace(ask.shapes)
        broken = fault if fault.kind is Kind.STREAM else None
        if operation.framing is None:
            body = chunks.unary(whole)
            if broken is not None:
                return script.broken_unary(body, broken)
            return script.json_reply(body, pace=pace, headers=headers)
        style = next((name for name in chunks.FINISH_STYLES if name in ask.shapes), "")
        pieces = ask.shapes["chunks"]["n"] if "chunks" in ask.shapes else 0
        streamed = chunks.stream(
            whole, style=style, pieces=pieces, usage_last="usage-last" in ask.shapes
        )
        return script.streamed(streamed, operation.framing, pace, broken, headers)

    def _count(
        self,
        document: Mapping[str, Any],
        operation: _Operation,
        fault: Behaviour,
    ) -> Iterable[Step]:
        counted = _parsed("CountTokensRequest", document)
        if "contents" in counted and "generateContentRequest" in counted:
            raise Refused(
                errors.invalid_argument("contents and generateContentRequest exclude each other.")
            )
        request = counted.get("generateContentRequest", counted)
        for text in rules.contents_faults(request):
            raise Refused(errors.invalid_argument(text))
        if fault.kind is Kind.ERROR:
            raise Refused(errors.for_behaviour(fault.name, operation.about(fault)))
        if fault.kind is Kind.TRANSPORT:
            return script.transport_fault(fault)
        tokens = asking.prompt_tokens(request)
        details = [{"modality": name, "tokenCount": n} for name, n in tokens.items() if n]
        body = {"totalTokens": sum(tokens.values()), "promptTokensDetails": details}
        if fault.kind is Kind.STREAM:
            return script.broken_unary(body, fault)
        return script.json_reply(body)

    # ---- embeddings ----------------------------------------------------------------------------

    def _embed(
        self,
        document: Mapping[str, Any],
        operation: _Operation,
        model: Model,
        behaviours: tuple[Behaviour, ...],
        now: float,
    ) -> Iterable[Step]:
        if single := operation.method == "embedContent":
            request = _parsed("EmbedContentRequest", document)
            requests = [embeddings.with_model(request, operation.name)]
        else:
            requests = _parsed("BatchEmbedContentsRequest", document).get("requests", [])
        text = embeddings.objection(requests, operation.name, model)
        if text is not None:
            raise Refused(errors.invalid_argument(text))
        fault = behaviours[0]
        if fault.kind is Kind.ERROR:
            raise Refused(errors.for_behaviour(fault.name, operation.about(fault)))
        if fault.kind is Kind.TRANSPORT:
            return script.transport_fault(fault)
        # A text that is too long is silently truncated.
        counted = min(sum(embeddings.tokens(requests).values()), len(requests) * model.input_limit)
        self._take(operation, model, counted, now)
        self.served += 1
        shapes = {b.name: b for b in behaviours if b.kind is Kind.SHAPE}
        body = embeddings.answer(requests, model, self.config.seed)
        if "fewer-vectors" in shapes:
            body["embeddings"].pop()
        if single and body["embeddings"]:
            body["embedding"] = body.pop("embeddings")[0]
        if fault.kind is Kind.STREAM:
            return script.broken_unary(body, fault)
        return script.json_reply(body, pace=self._pace(shapes))

    # ---- checks --------------------------------------------------------------------------------

    def _model(self, operation: _Operation) -> Model:
        name, method = operation.name, operation.method
        if name in models.GONE:
            raise Refused(errors.gone_model(name, models.GONE[name]))
        model = models.find(name)
        if method == "batchEmbedContents":
            method = "embedContent"  # The format of Google's message.
        if model is None or method.replace("streamG", "g") not in model.methods:
            raise Refused(errors.unknown_model(name, method))
        if {name, model.name} & operation.key.config.closed_models:
            raise Refused(errors.closed_model(name))
        return model

    def _check(self, request: dict[str, Any], model: Model, operation: _Operation) -> None:
        text = rules.objection(request, model)
        if text is None and operation.call is Call.STREAM:
            text = generation_rules.stream_objection(request, model)
        if text is None and self.config.strict_signatures:
            foreign = calls.corrupted(self.config.seed, request)
            text = None if foreign is None else f"Corrupted thought signature. ({foreign})"
        if text is not None:
            raise Refused(errors.invalid_argument(text))
        denial = self.resources.denial(operation.key, request)
        if denial is not None:
            raise Refused(denial)

    def _book(
        self, operation: _Operation, model: Model, request: dict[str, Any], now: float
    ) -> None:
        tokens = sum(asking.prompt_tokens(request).values())
        if tokens > model.input_limit:
            text = (
                f"The input token count ({tokens}) exceeds the maximum number of tokens allowed "
                f"({model.input_limit})."
            )
            raise Refused(errors.invalid_argument(text))
        self._take(operation, model, tokens, now)

    def _take(self, operation: _Operation, model: Model, tokens: int, now: float) -> None:
        key = operation.key
        over = self.quotas.take(key.project, model.name, key.config.limits, tokens, now)
        if over is not None:
            quotas = list(over.quotas)
            if operation.call is Call.EMBED:
                quotas = [errors.of_embeddings(quota) for quota in quotas]
            raise Refused(errors.quota_exceeded(quotas, model.name, over.retry_delay))

    def _pace(self, shapes: Mapping[str, Behaviour]) -> Pace:
        slow, cut = shapes.get("slow"), shapes.get("fragmented")
        return Pace(
            float(slow["delay"]) if slow is not None else self.config.first_byte_delay,
            float(slow["chunkDelay"]) if slow is not None else self.config.chunk_delay,
            max(1, int(cut["size"])) if cut is not None else 0,
            float(cut["delay"]) if cut is not None else 0.0,
        )

    def _seed(self, request: Mapping[str, Any]) -> str:
        return f"{self.config.seed}:{words.digest(request)}"


def _framing(exchange: Exchange) -> Framing | None:
    if not exchange.path.endswith(":streamGenerateContent"):
        return None
    return Framing.SSE if exchange.query.get("alt") == "sse" else Framing.ARRAY


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = f"Invalid JSON payload received. {error}"
        raise Refused(errors.field_violations([("", text)])) from error
    if not isinstance(document, dict):
        text = 'Invalid JSON payload received. Unknown name "": Root element must be a message.'
        raise Refused(errors.field_violations([("", text)]))
    return document


def _parsed(message: str, document: Mapping[str, Any]) -> dict[str, Any]:
    request, violations = wire.parse(message, document)
    if violations:
        raise Refused(errors.field_violations(violations[:50]))
    return request


def _asked(document: dict[str, Any], body: bytes, call: Call) -> tuple[Behaviour, ...]:
    """The behaviours that the prompt asks for. A misspelt one is answered with an error."""
    if b"[simulate:" not in body:
        return ()
    if call is Call.EMBED:
        batch, _ = wire.parse("BatchEmbedContentsRequest", document)
        single, _ = wire.parse("EmbedContentRequest", document)
        text = embeddings.last_text(batch.get("requests") or [single])
    else:
        text = asking.last_user_text(wire.parse("GenerateContentRequest", document)[0])
    try:
        return tuple(behaviours.triggers(text))
    except BehaviourError as error:
        raise Refused(errors.invalid_argument(f"[simulate]: {error}")) from error


def _one_model(name: str) -> dict[str, Any]:
    model = models.find(name)
    if model is None:
        raise Refused(errors.unknown_model(name, "getModel"))
    return {**model.entry(), "name": f"models/{name}"}


def _page_of_models(query: Mapping[str, str]) -> dict[str, Any]:
    listing = models.listing()
    try:
        size = int(query.get("pageSize") or _DEFAULT_PAGE)
        start = int(base64.b64decode(query.get("pageToken", ""), validate=True) or 0)
    except (ValueError, binascii.Error):
        raise Refused(errors.invalid_argument("Invalid page size or page token.")) from None
    if size < 0 or not 0 <= start <= len(listing):
        raise Refused(errors.invalid_argument("Invalid page size or page token."))
    end = start + min(size, _GREATEST_PAGE)
    page: dict[str, Any] = {"models": listing[start:end]}
    if end < len(listing):
        page["nextPageToken"] = base64.b64encode(str(end).encode()).decode("ascii")
    return page
