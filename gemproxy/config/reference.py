"""Render the list of settings for people: the table of the documentation, the example files.

``python -m gemproxy.config.reference`` writes ``docs/configuration.md``'s table and the files in
``config/`` again; a test compares them with ``settings``.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from gemproxy.config.credentials import SAMPLE_ADMIN_TOKEN
from gemproxy.config.settings import SECTIONS, camel, described_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"

_WIDTH = 96

_PROXY_HEAD = """\
# proxy.yaml: the daemon. Every setting with its default; leave out what you do not change.
# `gemproxy check` says where each mistake is, `gemproxy init` writes this file with a fresh token.
"""

_KEYS_EXAMPLE = """\
# keys.yaml: the pool. Only keys of projects that you own or pay for, under Google's terms.
# Keep this file readable by its owner alone (chmod 600).

keys:
  - name: primary-key         # unique; shown in logs and metrics
    # Exactly one of key, keyEnv (a variable's name) and keyFile (its content is the key; a path
    # from this file's folder, or $CREDENTIALS_DIRECTORY/NAME for a credential of systemd).
    keyEnv: GEMINI_API_KEY
    weight: 1                 # share of the traffic, a whole number from 1 to 1000
    cooldownSeconds: null     # first cooldown of its breaker; null: monitoring.cooldownSeconds
    project: null             # keys of one Google project share its quota; null: the key's own name
    enabled: true
    models: []                # the only models that it serves; empty: all
    limits:                   # what it may use; null: unlimited
      rpm: null               # requests a minute
      tpm: null               # tokens a minute
      rpd: null               # requests a day
  # - name: second-key
  #   keyFile: second-key.txt
  #   project: team-a
"""

_CLIENTS_EXAMPLE = """\
# clients.yaml: who may ask, and how much. Leave the file out to have the tokens of
# proxy.accessTokens only. Keep it readable by its owner alone (chmod 600) if it holds tokens.
# Clients can also be made while the daemon runs: `gemproxy clients add NAME`.

clients:
  - name: example-service     # unique; shown in logs, metrics and usage
    # Exactly one of token, tokenEnv (a variable's name), tokenFile (its content is the token; a
    # path from this file's folder, or $CREDENTIALS_DIRECTORY/NAME for systemd's credentials) and
    # tokenSha256 (the SHA-256 of the token in hex digits: printf %s TOKEN | sha256sum).
    tokenEnv: EXAMPLE_SERVICE_TOKEN
    enabled: true
    expires: null             # a date, through which it is valid in proxy.timezone, or an RFC 3339
                              # time such as 2027-06-30T12:00:00Z; null: never
    models: []                # shell-style patterns such as gemini-3*; empty: all
    endpoints: []             # some of chat, responses, messages, embeddings, images, audio, files,
                              # batches, native; empty: all
    addresses: []             # networks that it is valid from, such as 10.0.0.0/8; empty: all
    limits:                   # null: unlimited, whatever defaults says
      rpm: null               # requests in 60 seconds
      tpm: null               # tokens in 60 seconds
      rpd: null               # requests on a calendar day of proxy.timezone
      tpd: null               # tokens on a calendar day
      concurrent: null        # requests in flight
    budget:                   # estimated cost in US dollars; null: unlimited, as above
      usdPerDay: null
      usdPerMonth: null
    priority: normal          # high, normal or low: who is served first while keys are short
    debug: false              # true: answers name the key that served them
  # - name: second-service
  #   tokenFile: second-service.txt

# For every client, access token and anonymous request that does not say otherwise, field by field.
defaults: {}
"""

#: name -> default, unit, meaning; a test compares it with what ``loading`` reads.
_KEYS_TABLE = (
    ("name", "", "", "unique name of 1 to 64 printable characters; shown in logs and metrics"),
    ("key", "", "", "the key itself; exactly one of key, keyEnv and keyFile"),
    ("keyEnv", "", "", "name of the environment variable that holds the key"),
    ("keyFile", "", "", "path of the file that holds the key, from the folder of keys.yaml"),
    ("weight", "1", "", "share of the traffic, a whole number from 1 to 1000"),
    ("cooldownSeconds", "null", "seconds", "overrides monitoring.cooldownSeconds"),
    ("project", "null", "", "keys of one Google project share one quota; null: the key's own name"),
    ("enabled", "true", "", "false: the key is kept and not used"),
    ("models", "[]", "", "the only models that the key serves; empty: all"),
    (
        "limits.rpm",
        "null",
        "requests",
        "requests that the key may use in a minute; null: unlimited",
    ),
    ("limits.tpm", "null", "tokens", "tokens that the key may use in a minute; null: unlimited"),
    ("limits.rpd", "null", "requests", "requests that the key may use in a day; null: unlimited"),
)


_UNLIMITED = "null: unlimited"
#: The same for clients.
_CLIENTS_TABLE = (
    (
        "name",
        "",
        "",
        (
            "unique name of 1 to 64 printable characters, not other, anonymous or admin; shown in"
            " logs, metrics and usage"
        ),
    ),
    ("token", "", "", "the token itself; exactly one of token, tokenEnv, tokenFile, tokenSha256"),
    ("tokenEnv", "", "", "name of the environment variable that holds the token"),
    ("tokenFile", "", "", "path of the file that holds the token, from the folder of clients.yaml"),
    ("tokenSha256", "", "", "SHA-256 of the token in 64 hex digits"),
    ("enabled", "true", "", "false: the token is refused"),
    (
        "expires",
        "null",
        "",
        (
            "a date, through which the token is valid in proxy.timezone, or an RFC 3339 time from"
            " which it is not; null: never"
        ),
    ),
    (
        "models",
        "[]",
        "",
        (
            "shell-style patterns; a model is allowed if its asked or its upstream name matches"
            " one; empty: all"
        ),
    ),
    (
        "endpoints",
        "[]",
        "",
        (
            "some of chat, responses, messages, embeddings, images, audio, files, batches, native;"
            " empty: all"
        ),
    ),
    (
        "addresses",
        "[]",
        "",
        (
            "networks in CIDR notation that the token is valid from: the peer's address, or the one"
            " that proxy.trustedProxies name; empty: all"
        ),
    ),
    ("limits.rpm", "null", "requests", f"requests in 60 seconds; {_UNLIMITED}"),
    ("limits.tpm", "null", "tokens", f"input and output tokens in 60 seconds; {_UNLIMITED}"),
    ("limits.rpd", "null", "requests", f"requests on a day of proxy.timezone; {_UNLIMITED}"),
    ("limits.tpd", "null", "tokens", f"tokens on a day of proxy.timezone; {_UNLIMITED}"),
    ("limits.concurrent", "null", "requests", f"requests in flight; {_UNLIMITED}"),
    ("budget.usdPerDay", "null", "US dollars", f"estimated cost on a day; {_UNLIMITED}"),
    ("budget.usdPerMonth", "null", "US dollars", f"estimated cost in a month; {_UNLIMITED}"),
    ("priority", "normal", "", "high, normal or low: who is served first while keys are short"),
    ("debug", "false", "", "true: answers name the key that served them"),
)


def table() -> str:
    """The table of all settings in Markdown."""
    rows = ["| setting | default | unit | meaning |", "| --- | --- | --- | --- |"]
    rows += [_row(*row) for row in _proxy_rows()]
    rows += [_row(f"keys[].{name}", *rest) for name, *rest in _KEYS_TABLE]
    rows += [_row(f"clients[].{name}", *rest) for name, *rest in _CLIENTS_TABLE]
    meaning = (
        "the settings of a client but name, token and enabled, for every client, access token and"
        " anonymous request that does not say otherwise, field by field"
    )
    rows.append(_row("defaults", "{}", "", meaning))
    return "\n".join(rows) + "\n"


def proxy_example(admin_token: str = SAMPLE_ADMIN_TOKEN) -> str:
    """A complete proxy.yaml with ``admin_token`` in it."""
    lines = [_PROXY_HEAD]
    for section, cls in SECTIONS.items():
        lines.append(f"{section}:")
        defaults = cls()
        for field, description in described_fields(cls):
            name = camel(field.name)
            value = admin_token if name == "adminToken" else _written(getattr(defaults, field.name))
            unit = f" ({description.unit})" if description.unit else ""
            restart = "; needs a restart" if description.restart else ""
            lines += _comment(description.meaning + unit + restart)
            lines.append(f"  {name}: {value}")
        lines.append("")
    return "\n".join(lines)[:-1]


def keys_example() -> str:
    """A complete keys.yaml with a placeholder for the key."""
    return _KEYS_EXAMPLE


def clients_example() -> str:
    """A complete clients.yaml with a placeholder for the token."""
    return _CLIENTS_EXAMPLE


def with_table(page: str) -> str:
    """The documentation page with its table replaced."""
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    return marked.sub(lambda _: f"{BEGIN}\n{table()}{END}", page)


def _proxy_rows() -> Iterator[tuple[str, str, str, str]]:
    for section, cls in SECTIONS.items():
        defaults = cls()
        for field, description in described_fields(cls):
            restart = " (needs a restart)" if description.restart else ""
            yield (
                f"{section}.{camel(field.name)}",
                _written(getattr(defaults, field.name)),
                description.unit,
                description.meaning + restart,
            )


def _row(name: str, default: str, unit: str, meaning: str) -> str:
    shown = f"`{default}`" if default else ""
    # A vertical bar ends a cell in Markdown.
    safe = meaning.replace("|", "\\|")
    return f"| `{name}` | {shown} | {unit} | {safe} |"


def _written(value: object) -> str:
    """The default as YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return _EMPTY.get(type(value), str(value)) if not value else str(value)


_EMPTY: Mapping[type, str] = {tuple: "[]", dict: "{}"}


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="  # ", subsequent_indent="  # ", break_long_words=False
    )


def _rewrite(root: Path) -> None:
    page = root / "docs" / "configuration.md"
    page.write_text(with_table(page.read_text("utf-8")), "utf-8")
    (root / "config" / "proxy.example.yaml").write_text(proxy_example(), "utf-8")
    (root / "config" / "keys.example.yaml").write_text(keys_example(), "utf-8")
    (root / "config" / "clients.example.yaml").write_text(clients_example(), "utf-8")


if __name__ == "__main__":
    _rewrite(Path.cwd())
