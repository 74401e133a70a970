"""``python -m gemproxy`` is ``gemproxy``."""

import sys

from gemproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
