"""A simulated Gemini API on loopback, with faults on request. It needs no internet.

It is written from the documented and recorded behaviour of Google, not from our own translation, so
that a mistake in one is not repeated in the other. From the rest of gemproxy it imports only
``clock``, ``core.errors`` and ``secret``. A request passes these modules: ``server`` reads it,
``api`` decides (``wire`` and ``rules`` check it, ``answers`` makes the model's answer, ``chunks``
divides it, ``errors`` refuses), ``script`` lists the steps on the connection, ``playing`` performs
them. ``docs/simulator.md`` is for users.
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
