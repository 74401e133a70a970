"""A Gemini API on loopback that needs no internet, with faults to order.

Written from the wire facts and not from our own translation, so that a misunderstanding in one
does not hide in the other: it imports nothing of gemproxy but ``errors`` and ``secret``. The line
of a request: ``server`` reads it, ``api`` decides (``wire`` and ``rules`` check it, ``answers``
writes what the model says, ``chunks`` cuts it, ``errors`` refuses), ``script`` says what goes over
the connection, ``playing`` plays that. ``docs/simulator.md`` is for its users.
"""

from gemproxy.simulator.behaviours import (
    Assignment,
    Behaviour,
    BehaviourError,
    assignment,
    behaviour,
)
from gemproxy.simulator.config import (
    DEMO_KEYS,
    SimulatedKey,
    SimulatorConfig,
    config_for,
    demo_config,
    load,
)
from gemproxy.simulator.quotas import Limits
from gemproxy.simulator.server import Simulator

__all__ = [
    "DEMO_KEYS",
    "Assignment",
    "Behaviour",
    "BehaviourError",
    "Limits",
    "SimulatedKey",
    "Simulator",
    "SimulatorConfig",
    "assignment",
    "behaviour",
    "config_for",
    "demo_config",
    "load",
]
