"""openai in an older major: the same as with the newest version."""

from with_openai import *  # noqa: F403 - its tests
