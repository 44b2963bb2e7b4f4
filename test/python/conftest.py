"""Unit tests of the Python half: no processes of a cluster, no network."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
