"""``gemproxy check --service``: check the files of the installed service in its environment.

An operator's shell has another working directory, other variables and no credentials. A check there
may read other files than the daemon, or miss credentials. So systemd runs the check in the
environment of the unit, with the files that the unit names and as a user of the same kind.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gemproxy.cli.exits import ExitStatus, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

UNIT = "gemproxy.service"
#: Settings of the unit that affect the check: user, credentials, variables, folders.
_KEPT = frozenset(
    {
        *("User", "Group", "DynamicUser", "SupplementaryGroups", "UMask"),
        *("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"),
        *("ImportCredential", "Environment", "EnvironmentFile", "PassEnvironment"),
        *("UnsetEnvironment",),
    }
)
#: The folders belong to the service; the check gets only their names.
_FOLDERS = {
    "StateDirectory": ("STATE_DIRECTORY", "/var/lib"),
    "RuntimeDirectory": ("RUNTIME_DIRECTORY", "/run"),
    "CacheDirectory": ("CACHE_DIRECTORY", "/var/cache"),
    "LogsDirectory": ("LOGS_DIRECTORY", "/var/log"),
    "ConfigurationDirectory": ("CONFIGURATION_DIRECTORY", "/etc"),
}
#: Specifiers of systemd.unit(5) that stand in such settings.
_SPECIFIERS = {"%S": "/var/lib", "%t": "/run", "%C": "/var/cache", "%L": "/var/log", "%E": "/etc"}
_OPTIONS = {
    "--config": "--config",
    "-c": "--config",
    "--keys": "--keys",
    "-k": "--keys",
    "--clients": "--clients",
}

Settings = dict[str, list[str]]


def check(unit: str, *, as_json: bool) -> int:
    """Check the files of ``unit``; returns the exit status of that check.

    Raises :class:`Refused` if systemd cannot be asked.
    """
    settings = settings_of(_asked("systemctl", "cat", unit), unit)
    program = shutil.which(sys.argv[0]) or sys.argv[0]
    command = [str(Path(program).absolute()), "check", *options_of(settings, unit)]
    if as_json:
        command.append("--json")
    runner = ["systemd-run", "--pipe", "--wait", "--collect", "--quiet", *properties(settings)]
    # Only this program is run, with properties from this machine's unit.
    done = subprocess.run([*runner, *command], stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    return done.returncode


def settings_of(text: str, unit: str) -> Settings:
    """The effective settings of the section ``[Service]``, drop-ins included."""
    found: Settings = {}
    section = ""
    for line in _whole_lines(text):
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif section == "Service" and "=" in line:
            name, _, value = (part.strip() for part in line.partition("="))
            # An empty value resets a list (systemd.service(5)).
            found[name] = [*found.get(name, ()), _expanded(value, unit)] if value else []
    return found


def options_of(settings: Settings, unit: str) -> list[str]:
    """``--config``, ``--keys`` and ``--clients`` of the command that the unit runs."""
    if not settings.get("ExecStart"):
        raise Refused(f"{unit} starts nothing", ExitStatus.FAILED)
    words = shlex.split(settings["ExecStart"][-1])
    options = []
    for number, word in enumerate(words):
        name, given, value = word.partition("=")
        if name in _OPTIONS:
            following = words[number + 1 : number + 2]
            options += [_OPTIONS[name], value] if given else [_OPTIONS[name], *following]
    return options


def properties(settings: Settings) -> Iterator[str]:
    """The arguments that give ``systemd-run`` the environment of the unit."""
    for name, values in settings.items():
        if name in _KEPT:
            yield from (f"--property={name}={value}" for value in values)
        elif name in _FOLDERS and values:
            variable, base = _FOLDERS[name]
            folder = values[-1].split()[0].partition(":")[0]
            yield f"--setenv={variable}={base}/{folder}"


def _whole_lines(text: str) -> Iterable[str]:
    joined = re.sub(r"\\\n(?:[ \t]*[#;].*\n)*", " ", text)
    return (
        line.strip()
        for line in joined.splitlines()
        if line.strip() and not line.lstrip().startswith(("#", ";"))
    )


def _expanded(value: str, unit: str) -> str:
    names = {**_SPECIFIERS, "%n": unit, "%N": unit.rpartition(".")[0], "%%": "%"}
    return re.sub("%.", lambda match: names.get(match[0], match[0]), value)


def _asked(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise Refused(f"{command[0]} cannot be run: {error.strerror}", ExitStatus.FAILED) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise Refused(f"{' '.join(command)}: {lines[-1]}", ExitStatus.FAILED)
    return done.stdout
