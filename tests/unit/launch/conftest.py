"""Lets the tests import the scripts of the folder launch/, which is no package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "launch"))
