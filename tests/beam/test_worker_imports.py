"""What the embedding's workers import: nothing that only the preparation's image has."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
for name in ("polars", "scann", "implicit"):
    sys.modules[name] = None
from two_tower.embedding import candidates, model_handler
from two_tower.data import Work
"""


def test_the_embedding_needs_no_polars() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)
