"""Other forms of a request for ``generateContent``, which an endpoint tries after a refusal."""

from __future__ import annotations

from typing import Final

from gemproxy.core.retry import Revision
from gemproxy.pool.outcome import Outcome
from gemproxy.translate.shared.finish import SIGNATURE_REFUSED

#: Replace every thought signature by the documented dummy.
REPLACED_SIGNATURES: Final = Revision(SIGNATURE_REFUSED, is_attempt=True, needs_same_key=True)
#: Ask without log probabilities. It does not count towards the allowed attempts, because it is
#: another request.
NO_LOGPROBS: Final = Revision("logprobs", is_attempt=False, needs_same_key=False)


def revision_for(failed: Outcome, *, has_signatures: bool, has_logprobs: bool) -> Revision | None:
    """Return the form to try after ``failed``, if there is one.

    ``has_signatures``: the request has signatures that were not replaced yet. ``has_logprobs``: it
    asks for log probabilities.
    """
    if failed.reason == REPLACED_SIGNATURES.reason:
        return REPLACED_SIGNATURES if has_signatures else None
    if failed.reason == NO_LOGPROBS.reason and has_logprobs:
        return NO_LOGPROBS
    return None
