"""What the decisions about one unary request cost by themselves, with no network.

The rest of a request's CPU time is HTTP on both sides, its log line and its metrics.
"""

import json
import time
from collections.abc import Callable

from keypool import START, SUCCESS, pool_of
from measuring import MODEL, Load, chat

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.providers.gemini.wire.answers import decode_answer
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.signatures import SignatureStore

CALLS = 5_000
#: The best of so many tries: what disturbs a try makes it longer, never shorter.
TRIES = 5
REQUEST = json.dumps(chat(Load(clients=1))).encode()
#: What the made-up upstream answers, in its shape and size.
ANSWER = json.dumps(
    {
        "candidates": [
            {
                "content": {"parts": [{"text": "noon " * 35}], "role": "model"},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 250,
            "candidatesTokenCount": 50,
            "totalTokenCount": 300,
        },
        "modelVersion": MODEL,
        "responseId": "bench-answer",
    },
    indent=2,
).encode()


def parts() -> dict[str, float]:
    """Microseconds of each, in the order in which a request meets them."""
    signatures = SignatureStore()
    request = decode_chat_completion(REQUEST)
    context = to_gemini(request, model=MODEL, signatures=signatures).context
    answer = decode_answer(ANSWER)
    pool = pool_of(3)

    def translate_answer() -> None:
        to_openai(
            [answer], context, created=0, new_id=lambda: "bench-answer", signatures=signatures
        )

    return {
        "reading the request": _cost(lambda: decode_chat_completion(REQUEST)),
        "translating it": _cost(lambda: to_gemini(request, model=MODEL, signatures=signatures)),
        "choosing a key of three and recording the outcome": _cost(
            lambda: pool.record(pool.acquire(MODEL, START), SUCCESS, START)
        ),
        "reading Gemini's answer": _cost(lambda: decode_answer(ANSWER)),
        "translating it back": _cost(translate_answer),
    }


def _cost(part: Callable[[], object]) -> float:
    return min(_one_try(part) for _ in range(TRIES)) / CALLS * 1e6


def _one_try(part: Callable[[], object]) -> float:
    before = time.process_time()
    for _ in range(CALLS):
        part()
    return time.process_time() - before
