"""What all tests share."""

import sys
from pathlib import Path

# The fakes are code of the tests, not of the package.
sys.path.insert(0, str(Path(__file__).parent))
