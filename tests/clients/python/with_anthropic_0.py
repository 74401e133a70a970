"""The official SDK for Python, an older major version: sends its key as ``x-api-key``."""

from pathlib import Path

import anthropic
import pytest
import with_anthropic
from with_anthropic import *  # noqa: F403 - the same tests


def test_this_is_the_older_version():
    assert anthropic.__version__.startswith("0.")
    source = Path(anthropic.__file__).with_name("_client.py").read_text("utf-8")
    assert '"X-Api-Key"' in source


@pytest.fixture
def client(proxy):
    """The key goes into ``x-api-key``."""
    made = with_anthropic.client_of(proxy.token)
    assert made.auth_headers == {"X-Api-Key": proxy.token}
    return made
