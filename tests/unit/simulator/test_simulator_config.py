"""The YAML of the simulator, the catalogue, and what both say about mistakes."""

import argparse
from pathlib import Path

import pytest

from gemproxy.core.errors import ConfigError
from gemproxy.simulator import BehaviourError, behaviour, load
from gemproxy.simulator.behaviours import ALIASES, CATALOGUE, triggers, without_triggers
from gemproxy.simulator.config import DEMO_KEYS
from gemproxy.simulator.main import add_arguments, run
from gemproxy.simulator.recording import ExchangeLog, received

ROOT = Path(__file__).parents[3]


def faults(tmp_path, text):
    path = tmp_path / "simulator.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(fault).removeprefix(str(path)) for fault in caught.value.faults]


def test_the_example_loads():
    config = load(ROOT / "config" / "simulator.example.yaml")
    assert [key.name for key in config.keys][:3] == ["steady", "limited", "flaky"]
    assert config.keys[1].limits.rpm == 3
    assert config.keys[2].behaviour.behaviour.name == "overloaded"
    assert config.keys[5].behaviour.times == 2


def test_an_empty_file_is_a_simulator_without_keys(tmp_path):
    path = tmp_path / "simulator.yaml"
    path.write_text("", encoding="utf-8")
    assert load(path).keys == ()


def test_every_mistake_is_told_with_its_line(tmp_path):
    text = """seeds: 1
chunkDelaySeconds: slow
keys:
  - name: a
    key: k
    behaviour: truncate
  - name: a
    key: k
    times: 0
  - name: b
    key: l
    limits: {rpm: "3"}
"""
    assert faults(tmp_path, text) == [
        ":1: seeds: unknown setting; did you mean 'seed'?",
        ":2: chunkDelaySeconds: chunkDelaySeconds: expected int or float, got str",
        ":4: keys[0]: no behaviour 'truncate'; did you mean 'truncated'?",
        ":7: keys[1]: times: expected a whole number of at least 1, got 0",
        ":12: keys[2].limits.rpm: rpm: expected int, got str",
        ":7: keys[1].name: 'a' is used twice",
        ":8: keys[1].key: the same key as another one",
    ]


@pytest.mark.parametrize("text", ["keys: [", "- 1", "keys: {a: 1}", "\x00"])
def test_what_is_no_configuration_is_a_fault(tmp_path, text):
    assert faults(tmp_path, text)


def test_a_missing_file_is_a_fault(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml")


def test_a_mistake_in_the_file_is_exit_status_78(tmp_path, capsys):
    path = tmp_path / "simulator.yaml"
    path.write_text("keyz: []", encoding="utf-8")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(["--config", str(path)])) == 78
    assert "did you mean 'keys'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("overlaoded", {}, "did you mean 'overloaded'"),
        ("truncated", {"chunk": 1}, "did you mean 'chunks'"),
        ("truncated", {"chunks": "two"}, "expected int, got 'two'"),
        ("safety", {"text": "perhaps"}, "expected bool"),
        ("slow", {"delay": True}, "expected float"),
    ],
)
def test_a_wrong_behaviour_is_told(name, parameters, message):
    with pytest.raises(BehaviourError, match=message):
        behaviour(name, parameters)


def test_defaults_stand_where_nothing_is_said():
    assert behaviour("error-mid-stream", {"code": 500}).parameters == {"chunks": 2, "code": 500}


def test_aliases_lead_to_the_catalogue():
    assert set(ALIASES.values()) <= set(CATALOGUE)
    assert behaviour("503").name == "overloaded"


def test_triggers_are_read_and_taken_out():
    text = "[simulate:slow delay=1 chunkDelay=0.5] Hello [simulate:block]"
    assert [found.name for found in triggers(text)] == ["slow", "block"]
    assert triggers(text)[0]["chunkDelay"] == 0.5
    assert without_triggers(text) == "Hello"


def test_the_documentation_names_every_behaviour_and_parameter():
    text = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    for name, entry in CATALOGUE.items():
        assert f"`{name}`" in text
        assert all(f"`{parameter}`" in text for parameter in entry.parameters), name


def test_the_log_is_bounded_in_number_and_bytes():
    log = ExchangeLog(3, 100)
    for number in range(10):
        exchange = received(number, 0.0, "POST", "/", {}, {})
        exchange.size = 10
        log.add(exchange)
    assert [exchange.number for exchange in log] == [7, 8, 9]
    exchange = received(11, 0.0, "POST", "/", {}, {})
    exchange.size = 95
    log.add(exchange)
    assert [exchange.number for exchange in log] == [11]


def test_no_demo_key_is_masked_for_its_own_secret():
    """The scrubber knows a secret by any twelve letters in a row."""
    for name, _ in DEMO_KEYS:
        for _, secret in DEMO_KEYS:
            parts = {secret[at : at + 12] for at in range(len(secret) - 11)}
            assert not any(part in name for part in parts)
