"""The kinds of values of settings: how each is read, and what its error message says.

A kind's ``read`` takes a node and gives the value, or raises :class:`InvalidValue` with what it
expected.
Nothing here depends on another setting; rules between settings are in ``rules``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gemproxy.config import endpoints, yaml_nodes
from gemproxy.core.clients import expiry_of

if TYPE_CHECKING:
    import yaml

Network = IPv4Network | IPv6Network

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")


class InvalidValue(Exception):
    """The value is invalid; the message says what was expected."""


class SettingKind(Protocol):
    """How one setting's value is read."""

    def read(self, node: yaml.Node) -> object:
        """The value in the node. Raises :class:`InvalidValue`."""


@dataclass(frozen=True)
class IntRange:
    """A whole number from ``least`` to ``most``."""

    least: int
    most: int = 2**53

    def read(self, node: yaml.Node) -> int:
        """The number."""
        value = _number(node, f"a whole number of at least {self.least}")
        if not isinstance(value, int) or value < self.least:
            raise InvalidValue(f"a whole number of at least {self.least}")
        if value > self.most:
            raise InvalidValue(f"a whole number of at most {self.most}")
        return value


@dataclass(frozen=True)
class Number:
    """A number from ``least`` to ``most``; ``above`` excludes ``least`` itself."""

    least: float = 0.0
    most: float = 31_536_000.0
    above: bool = False
    noun: str = "a number of seconds"

    def read(self, node: yaml.Node) -> float:
        """The number, as a float."""
        words = f"{self.noun} {'greater than' if self.above else 'of at least'} {self.least:g}"
        value = _number(node, words)
        if math.isnan(value) or value < self.least or (self.above and value == self.least):
            raise InvalidValue(words)
        if value > self.most:
            raise InvalidValue(f"{self.noun} of at most {self.most:.12g}")
        return float(value)


@dataclass(frozen=True)
class Flag:
    """``true`` or ``false``."""

    def read(self, node: yaml.Node) -> bool:
        """The truth value."""
        value = _scalar(node)
        if not isinstance(value, bool):
            raise InvalidValue("true or false")
        return value


@dataclass(frozen=True)
class NeverTrue:
    """A switch that this version knows and does not support."""

    why: str

    def read(self, node: yaml.Node) -> bool:
        """``False``."""
        if _scalar(node) is not False:
            raise InvalidValue(f"false, since {self.why}")
        return False


@dataclass(frozen=True)
class OneOf:
    """One of a few words. YAML reads the word ``off`` as false."""

    words: tuple[str, ...]

    def read(self, node: yaml.Node) -> str:
        """The word."""
        value = _scalar(node)
        if value is False and "off" in self.words:
            return "off"
        if not isinstance(value, str) or value not in self.words:
            raise InvalidValue(" or ".join((", ".join(self.words[:-1]), self.words[-1])))
        return value


@dataclass(frozen=True)
class StoreOfAnswers:
    """Where answers are stored; false, which YAML also reads from ``off`` and ``no``, is none."""

    words = ("memory", "state", "none")

    def read(self, node: yaml.Node) -> str:
        """The word."""
        value = _scalar(node)
        if value is False:
            return "none"
        if value == "redis":
            raise InvalidValue("memory, state or none; redis needs a later version")
        if not isinstance(value, str) or value not in self.words:
            raise InvalidValue("memory, state or none")
        return value


@dataclass(frozen=True)
class Text:
    """Printable text of 1 to ``most`` characters, with no white space around it."""

    noun: str = "text"
    most: int = 1000

    def read(self, node: yaml.Node) -> str:
        """The text."""
        value = _scalar(node)
        if (
            not isinstance(value, str)
            or not 0 < len(value) <= self.most
            or not value.isprintable()
            or value != value.strip()
        ):
            raise InvalidValue(f"{self.noun} of 1 to {self.most} printable characters")
        return value


@dataclass(frozen=True)
class Host:
    """An address to listen on."""

    def read(self, node: yaml.Node) -> str:
        """The address."""
        value = _scalar(node)
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9.:_-]{1,255}", value):
            raise InvalidValue("an address such as 127.0.0.1, ::1 or 0.0.0.0")
        return value


@dataclass(frozen=True)
class HostName:
    """A name or address as in the Host header, without a port, in lower case."""

    def read(self, node: yaml.Node) -> str:
        """The name; an IPv6 address without brackets and in its shortest form."""
        value = _scalar(node)
        if isinstance(value, str):
            try:
                return str(ip_address(value.strip("[]")))
            except ValueError:
                if _HOST_NAME.fullmatch(value):
                    return value.lower().rstrip(".")
        raise InvalidValue("a host name or an address, without a port")


@dataclass(frozen=True)
class AddressRange:
    """An address, or a network in CIDR notation."""

    def read(self, node: yaml.Node) -> Network:
        """Decode a network; a single address is a network with one address."""
        value = _scalar(node)
        if not isinstance(value, str):
            raise InvalidValue("a network such as 10.0.0.0/8, or an address")
        try:
            return ip_network(value)
        except ValueError as error:
            if "host bits" in str(error):
                whole = ip_network(value, strict=False)
                raise InvalidValue(f"a network without host bits, such as {whole}") from None
            raise InvalidValue("a network such as 10.0.0.0/8, or an address") from None


@dataclass(frozen=True)
class NetworkText(AddressRange):
    """As :class:`AddressRange`, but the value is the text of the network."""

    def read(self, node: yaml.Node) -> str:  # type: ignore[override]
        """The network in its shortest form."""
        return str(super().read(node))


@dataclass(frozen=True)
class Expires:
    """A date, or a time with its zone."""

    def read(self, node: yaml.Node) -> str:
        """The text, as it was given."""
        value = str(_scalar(node))
        try:
            expiry_of(value, UTC)
        except (ValueError, OverflowError):
            raise InvalidValue(
                "a date such as 2027-06-30, or a time such as 2027-06-30T12:00:00Z"
            ) from None
        return value


@dataclass(frozen=True)
class ProxyUser:
    """A user name of HTTP's Basic authentication."""

    def read(self, node: yaml.Node) -> str:
        """The name. RFC 7617 section 2: no colon and no control characters."""
        value = _scalar(node)
        if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
            raise InvalidValue("a user name of 1 to 255 printable characters")
        if ":" in value:
            raise InvalidValue("a user name without a colon")
        return value


@dataclass(frozen=True)
class ServerEndpoint:
    """The description of a Twisted server endpoint."""

    def read(self, node: yaml.Node) -> str:
        """The description."""
        value = _scalar(node)
        if isinstance(value, str) and endpoints.gives_twice(value):
            raise InvalidValue("an endpoint that gives each of its arguments once")
        if not isinstance(value, str) or not endpoints.is_description(value):
            raise InvalidValue(
                "a Twisted server endpoint string such as tcp:4806:interface=127.0.0.1"
            )
        return value


@dataclass(frozen=True)
class WebAddress:
    """A URL of one of ``schemes``, without credentials, query or fragment."""

    schemes: tuple[str, ...] = ("http", "https")
    origin_only: bool = False

    def read(self, node: yaml.Node) -> str:
        """The URL, without a slash at its end."""
        value = _scalar(node)
        if not isinstance(value, str) or not self._fits(value):
            parts = "credentials, path or query" if self.origin_only else "credentials or query"
            schemes = " or ".join(f"{scheme}://" for scheme in self.schemes)
            raise InvalidValue(f"an address that begins with {schemes}, without {parts}")
        return value.rstrip("/")

    def _fits(self, value: str) -> bool:
        if not value.isascii() or re.search(r"[\s\x00-\x1f\x7f?#@\\]", value):
            return False
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            return False
        path_fits = not self.origin_only or parts.path in {"", "/"}
        return parts.scheme in self.schemes and bool(parts.hostname) and port != 0 and path_fits


@dataclass(frozen=True)
class Origin:
    """An origin that browsers may call from, or ``*``."""

    def read(self, node: yaml.Node) -> str:
        """The origin."""
        if _scalar(node) == "*":
            return "*"
        try:
            return WebAddress(origin_only=True).read(node)
        except InvalidValue:
            raise InvalidValue("an origin such as https://example.com, or '*'") from None


@dataclass(frozen=True)
class FilePath:
    """A path of a file that this program writes; relative to the working directory."""

    def read(self, node: yaml.Node) -> Path:
        """The path."""
        value = _scalar(node)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise InvalidValue("the path of a file")
        return Path(value)


@dataclass(frozen=True)
class ExistingFile(FilePath):
    """A path of a file that must be there; relative to the folder of the file that names it."""


@dataclass(frozen=True)
class ModelName:
    """A model's name, without a leading ``models/``."""

    def read(self, node: yaml.Node) -> str:
        """The name."""
        value = _scalar(node)
        if not isinstance(value, str) or not _MODEL_NAME.fullmatch(value):
            raise InvalidValue("the name of a model, such as gemini-2.5-flash")
        return value.removeprefix("models/")


@dataclass(frozen=True)
class TimeZone:
    """A time zone of the IANA database."""

    def read(self, node: yaml.Node) -> str:
        """The name of the zone."""
        value = _scalar(node)
        try:
            if isinstance(value, str):
                return ZoneInfo(value).key
        except (ValueError, OSError, ZoneInfoNotFoundError):
            pass
        raise InvalidValue("the name of a time zone, such as UTC or Europe/Berlin")


@dataclass(frozen=True)
class Nullable:
    """Another kind, or ``null``."""

    kind: SettingKind

    def read(self, node: yaml.Node) -> object:
        """``None``, or the other kind's value."""
        return None if yaml_nodes.is_null(node) else self.kind.read(node)


@dataclass(frozen=True)
class ListOf:
    """A list of values of one kind."""

    item: SettingKind


@dataclass(frozen=True)
class StrMap:
    """A mapping of names to values, both of one kind."""

    item: SettingKind


Shape = SettingKind | ListOf | StrMap


def _scalar(node: yaml.Node) -> object:
    try:
        return yaml_nodes.scalar(node)
    except ValueError:
        return None


def _number(node: yaml.Node, words: str) -> int | float:
    try:
        value = yaml_nodes.scalar(node)
    except yaml_nodes.OddNumber:
        raise InvalidValue(f"{words} in plain decimal digits, such as 90, 1000 or 0.5") from None
    except ValueError:
        raise InvalidValue(words) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue(words)
    return value
