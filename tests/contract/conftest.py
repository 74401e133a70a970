"""Each test of a contract finds the simulator as it was at its start."""

import pytest


@pytest.fixture(autouse=True)
def _well_behaved_upstream(simulator):
    simulator.reset()
