"""The state of one candidate of an answer that any dialect needs: its end, and what it has."""

from __future__ import annotations

from gemproxy.providers.gemini.wire.answers import Candidate
from gemproxy.translate.shared.finish import CONTINUATION, UNSPECIFIED, FinishState


class CandidateState:
    """How a candidate ended so far, and whether it has content; whole or in chunks.

    A dialect's reader of candidates inherits from it. It calls :meth:`note_finish` for each chunk,
    sets :attr:`has_content`, and extends :meth:`restart` and :meth:`cut_off` by what it keeps
    itself.
    """

    __slots__ = ("_token", "ending", "has_content", "images", "searches")

    def __init__(self) -> None:
        self._token: str | None = None
        #: Images so far, without drafts.
        self.images = 0
        #: The searches that Google made; some chunks repeat those of the chunks before.
        self.searches: set[str] = set()
        #: The finish reason so far; the last one counts.
        self.ending: FinishState | None = None
        #: Whether there was text, a call or media. Thoughts do not count.
        self.has_content = False

    def note_finish(self, candidate: Candidate) -> None:
        """Note the finish reason, the token for the next hop, and what is charged by the piece."""
        grounding = candidate.grounding_metadata
        if grounding is not None and grounding.web_search_queries:
            self.searches.update(grounding.web_search_queries)
        for part in candidate.parts:
            if part.inline_data is not None and not part.thought:
                self.images += (part.inline_data.mime_type or "").startswith("image/")
        self._token = candidate.continuation_token or self._token
        reason = candidate.finish
        if reason is not None and (reason != UNSPECIFIED or self.ending is None):
            self.ending = FinishState(reason, candidate.finish_message)

    def block(self, reason: str, message: str | None) -> None:
        """The prompt was blocked."""
        self.ending = FinishState(reason, message, of_prompt=True)

    def restart(self) -> None:
        """The next hop of a long answer begins."""
        self.ending = None
        self._token = None

    def cut_off(self) -> None:
        """The rest of a long answer will not come."""
        if self.ending is None or not self.ending.is_clean:
            self.ending = FinishState(CONTINUATION)

    @property
    def is_answer(self) -> bool:
        """Whether this can be returned as an answer, even an empty one."""
        return self.has_content or (self.ending is not None and self.ending.is_clean)

    @property
    def is_empty(self) -> bool:
        """Whether the model stopped normally without any content."""
        return not self.has_content and self.ending is not None and self.ending.reason == "STOP"

    @property
    def is_blocked(self) -> bool:
        """Whether Google withheld this answer or the rest of it."""
        return self.ending is not None and self.ending.is_block

    @property
    def continuation(self) -> str | None:
        """The token that requests the next hop, if the answer goes on."""
        going_on = self.ending is not None and self.ending.reason == CONTINUATION
        return self._token if going_on else None

    def reject(self) -> None:
        """Raise :exc:`UpstreamRejected` if the finish reason blames the request."""
        if self.ending is not None and not self.has_content:
            self.ending.reject()


def no_content(*readers: CandidateState) -> str:
    """Why an answer cannot be used of which no candidate has any content."""
    reasons = {(reader.ending or FinishState()).reason for reader in readers}
    return f"no content, {', '.join(sorted(reasons))}"
