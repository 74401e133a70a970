"""Makes ``twistd gemproxy`` known."""

from twisted.application.service import ServiceMaker

gemproxy = ServiceMaker(
    "gemproxy",
    "gemproxy.tap",
    "An OpenAI-compatible gateway in front of a pool of Gemini API keys",
    "gemproxy",
)
