"""Makes ``twistd gemproxy`` known."""

from typing import Any

from twisted.application.service import ServiceMaker


class _Gemproxy(ServiceMaker):
    """Asked for its options by twistd when the daemon is to run, and by nobody else.

    From there on, and not when the daemon is ready, no signal but TERM and INT ends the process.
    """

    @property
    def options(self) -> Any:
        from gemproxy.service.signals import survive_signals  # noqa: PLC0415 - as the rest is

        survive_signals()
        return super().options


gemproxy = _Gemproxy(
    "gemproxy",
    "gemproxy.tap",
    "A gateway for OpenAI, Anthropic and Gemini clients in front of a pool of Gemini API keys",
    "gemproxy",
)
