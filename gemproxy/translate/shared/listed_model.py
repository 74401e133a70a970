"""An entry of the list of models, for the lists in each dialect."""

from __future__ import annotations

from typing import Protocol


class ListedModel(Protocol):
    """An entry of the provider's list of models."""

    @property
    def id(self) -> str:
        """The name by which it is asked for."""

    @property
    def is_served(self) -> bool:
        """Whether this program supports an operation of the model, according to the list."""

    @property
    def generates(self) -> bool:
        """Whether it generates content, according to the list."""

    @property
    def display_name(self) -> str | None:
        """Its name for people."""

    @property
    def input_token_limit(self) -> int | None:
        """The greatest number of tokens of a prompt."""

    @property
    def output_token_limit(self) -> int | None:
        """The greatest number of tokens of an answer."""

    @property
    def raw(self) -> bytes:
        """The whole entry, as the provider encodes it."""
