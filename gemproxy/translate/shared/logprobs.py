"""Log probabilities: ``logprobsResult`` becomes a choice's ``logprobs``."""

from __future__ import annotations

from gemproxy.api.openai.schema.answers import TokenLogprob, TopLogprob
from gemproxy.providers.gemini.wire.answers import LogprobsResult, TokenCandidate


def token_logprobs(result: LogprobsResult | None) -> list[TokenLogprob]:
    """The chosen tokens in order, each with the most likely ones if given."""
    if result is None:
        return []
    tops = result.top_candidates or []
    return [
        _token_logprob(chosen, (tops[place].candidates or []) if place < len(tops) else [])
        for place, chosen in enumerate(result.chosen_candidates or [])
    ]


def _token_logprob(chosen: TokenCandidate, top: list[TokenCandidate]) -> TokenLogprob:
    token = chosen.token or ""
    return TokenLogprob(
        token=token,
        # A probability of 1 is a logarithm of 0, and proto3 JSON leaves zeros out.
        logprob=chosen.log_probability or 0.0,
        bytes=list(token.encode()),
        top_logprobs=[_top_logprob(candidate) for candidate in top],
    )


def _top_logprob(candidate: TokenCandidate) -> TopLogprob:
    token = candidate.token or ""
    return TopLogprob(token, candidate.log_probability or 0.0, list(token.encode()))
