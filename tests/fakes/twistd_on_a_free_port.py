"""``twistd`` as it is, but that the demo listens on a free port: 4806 may be somebody's."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from twisted.scripts.twistd import run


def free_the_port() -> None:
    """Let the demo take any port."""
    from gemproxy import demo

    whole = demo.demo_settings

    def settings(*arguments: Any) -> Any:
        made = whole(*arguments)
        return replace(made, proxy=replace(made.proxy, port=0))

    demo.demo_settings = settings


if __name__ == "__main__":
    sys.argv[0] = "twistd"
    if "--demo" in sys.argv:
        free_the_port()
    run()
