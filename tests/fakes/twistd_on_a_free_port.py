"""``twistd`` as it is, but that the demo listens on a free port: 4806 may be somebody's."""

from __future__ import annotations

import sys

from twisted.scripts.twistd import run

if __name__ == "__main__":
    sys.argv[0] = "twistd"
    if "--demo" in sys.argv:
        sys.argv += ["--port", "0"]
    run()
