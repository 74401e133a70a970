"""Numbers that YAML reads in odd ways, and files that nobody could have meant."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from gemproxy.config.loading import load
from gemproxy.core.errors import ConfigError

TOKEN = "an-admin-token-of-the-tests"
KEYS = "keys:\n  - name: a\n    key: AIzaTestKeyOne0123456789\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(proxy="", keys=KEYS):
    if isinstance(proxy, str):
        Path("proxy.yaml").write_text(f"proxy:\n  adminToken: {TOKEN}\n{proxy}")
    Path("keys.yaml").write_text(keys)
    return load(Path("proxy.yaml"), Path("keys.yaml"), {})


def faults(proxy="", keys=KEYS):
    with pytest.raises(ConfigError) as caught:
        read(proxy, keys)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    "written",
    ["010", "+010", "1:30", "0b11", "0o17", "1_000", "0x_1F", "1:30.5", "1_0.5", "9" * 50],
)
def test_numbers_that_are_read_differently_are_refused(written):
    """They would be taken silently for others: 8, 90, 3, 1000."""
    (fault,) = faults(f"  port: {written}\n")
    assert fault.startswith("proxy.yaml:3: proxy.port: expected a whole number of at least")
    (fault,) = faults(f"upstream:\n  connectTimeoutSeconds: {written}\n")
    assert fault.startswith("proxy.yaml:4: upstream.connectTimeoutSeconds: expected a number")
    if written != "0o17":  # no number in YAML 1.1 either
        assert "in plain decimal digits, such as 90, 1000 or 0.5" in fault


@pytest.mark.parametrize(("written", "value"), [("90", 90), ("0x10", 16), ("+7", 7)])
def test_plain_whole_numbers_are_taken(written, value):
    """Hexadecimal digits mean the same in both versions of YAML."""
    assert read(f"  port: {written}\n").proxy.port == value


@pytest.mark.parametrize(
    ("written", "value"),
    [(".5", 0.5), ("2.50", 2.5), ("1.5e+1", 15.0), ("010.5", 10.5), ("3", 3.0)],
)
def test_plain_fractions_are_taken(written, value):
    """These mean the same to everybody as well."""
    settings = read(f"upstream:\n  connectTimeoutSeconds: {written}\n")
    assert settings.upstream.connect_timeout_seconds == value


@pytest.mark.parametrize(
    "value",
    ["1" + ":1" * 300_000, "9" * 600_000, "0x" + "f" * 600_000, "1." + "1" * 600_000,
     "1" + "_1" * 300_000, "0b" + "1" * 600_000, "1" + ":1" * 300_000 + ".5", "-" * 600_000],
    ids=["sixties", "digits", "hex", "fraction", "underscores", "binary",
         "float", "dashes"],
)  # fmt: skip
def test_long_numbers_are_refused_at_once(value):
    """The first of these took 23 seconds."""
    begun = time.process_time()
    assert len(faults(f"  port: {value}\nupstream:\n  connectTimeoutSeconds: {value}\n")) == 2
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "text",
    [
        "- " + "[], " * 10 + "\n" + "- a\n" * 3_000_000,
        "a:\n" * 4_000_000,
        "x: [" + "a," * 8_000_000 + "]",
        "a: &a [" + "x," * 400_000 + "]\nb: [" + "*a," * 400_000 + "]\n",
        "[" * 1_000_000,
        "{a: " * 1_000_000,
        "".join(f"a{n}: &a{n}\n  <<: *a{n - 1 if n else 0}\n  b{n}: 1\n" for n in range(20_000)),
        "a: &a {" + ", ".join(f"b{n}: 1" for n in range(9_000)) + "}\nproxy:\n  <<: ["
        + "*a, " * 100_000 + "]\n",
    ],
    ids=["list", "map", "flow", "aliases", "deep", "deep-map", "merge-chain", "merge-again"],
)  # fmt: skip
def test_bombs_are_refused_in_time(text):
    """Some seconds at the most, whatever the file is made of."""
    Path("proxy.yaml").write_text(text)
    begun = time.process_time()
    assert faults(None)
    assert time.process_time() - begun < 20


def test_a_file_of_gigabytes_is_not_read():
    """Sparse, so that the test needs no disk; it was read whole before it was refused."""
    with Path("proxy.yaml").open("wb") as file:
        os.truncate(file.fileno(), 8 * 1024**3)
    begun = time.process_time()
    assert "proxy.yaml: is larger than 16 MiB" in faults(None)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(kind):
    """A FIFO without a writer, an endless device, a folder."""
    path = Path("proxy.yaml")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert any(fault.startswith("proxy.yaml: cannot be read: ") for fault in faults(None))


def test_the_name_of_a_key_is_not_another_key_s_id():
    """``/admin/keys/{keyId}`` takes both, and would take one for the other."""
    other = hashlib.sha256(b"AIzaTestKeyOne0123456789").hexdigest()[:12]
    for name in (other, other.upper()):
        keys = f"{KEYS}  - name: '{name}'\n    key: AIzaTestKeyTwo0123456789\n"
        assert faults(keys=keys) == ["keys.yaml:4: keys[1].name: is the id of keys[0]"]
    own = KEYS.replace("name: a", f"name: '{other}'")
    assert read(keys=own).keys[0].name == other
