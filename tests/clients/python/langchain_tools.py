"""What the tests of LangChain's three chat models give to a model."""

from langchain_core.tools import tool
from pydantic import BaseModel


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"4 degrees in {city}"


@tool
def get_time(zone: str) -> str:
    """The time of a zone."""
    return f"noon in {zone}"


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None
