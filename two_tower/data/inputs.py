"""What a run works with: the configuration at its time, its files, and whether the index can take the attributes."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from two_tower.config import Config, ItemTableSettings, VectorSearchSettings, at_time
from two_tower.data.sources import SourceFile, resolve_sources
from two_tower.data.tables import available, load_entities
from two_tower.errors import ArtifactError, ConfigError, DataError
from two_tower.features import holds_categories
from two_tower.restricts import restricts_of, without_nan


def resolve_run(
    config: Config, moment: datetime, *, data_root: str | None = None, zone: str = "UTC"
) -> tuple[Config, dict[str, list[SourceFile]]]:
    """What a run at this moment works with: the configuration with the time filled in, and its files.

    What the last steps would refuse of the data, after the training, is refused here: the steps between are not told
    of the settings of those, so that they do not run again for another choice of them.

    Args:
        config: The whole configuration, whose texts below `data` may hold placeholders.
        moment: The run's time.
        data_root: As for `resolve_sources`.
        zone: The zone in which the time is filled in.

    Raises:
        ConfigError: The section `data` does not validate with the time in it, or a column of `evaluation.slices` holds
            no categories.
        DataError: What `resolve_sources` raises; or the item table cannot be read, or has an attribute that the index
            could not take.
    """
    config = at_time(config, moment, zone=zone)
    sources = resolve_sources(config.data, dataset=config.dataset or config.name, data_root=data_root)
    items, attributes = config.data.items, pa.schema([])
    if items and items.attributes:
        timezone = config.data.interactions.timezone
        attributes = _try_restricts(sources["items"], items, config.index.vector_search, timezone=timezone)
    _try_slices(config, attributes)
    return config, sources


def _try_restricts(
    files: list[SourceFile], items: ItemTableSettings, search: VectorSearchSettings, *, timezone: str
) -> pa.Schema:
    """Makes the restricts of the items that will be candidates, as the index will; the types of the attributes."""
    table = load_entities(
        files, items.model_copy(update={"features": {}, "display": []}), key="data.items", timezone=timezone
    )
    kept = available(table, table.ids, items, timezone=timezone)
    attributes = without_nan(pa.table({name: table.columns[f"attribute.{name}"] for name in items.attributes}))
    for name in search.numeric_restricts or []:
        if pa.types.is_string(attributes[name].type):
            is_csv = files[0]["format"] == "csv"
            remedy = f"give it a type: data.items.csv.types: {{{name}: number}}" if is_csv else "write it as one"
            raise DataError(
                f"index.vector_search.numeric_restricts: the column {name!r} of data.items is text, and a numeric "
                f"restrict takes a number; {remedy}"
            )
    try:
        restricts_of(table.ids.filter(kept), attributes.filter(kept), search)
    except ArtifactError as error:
        raise DataError(f"data.items.attributes: {error}") from error
    return attributes.schema


def _try_slices(config: Config, attributes: pa.Schema) -> None:
    """Refuses slices by a column of which the types of the features and attributes say that it has no categories."""
    data, kinds = config.data, {f"item.{field.name}": field.type for field in attributes}
    sides = {"item": data.items, "user": data.users}
    features = {side: table.features for side, table in sides.items() if table} | {"context": data.query.context}
    nothing = pa.chunked_array([pa.nulls(0)])
    for side, named in features.items():
        kinds |= {f"{side}.{name}": feature.cast(nothing).type for name, feature in named.items()}
    for column in config.evaluation.slices:
        if column in kinds and not holds_categories(kinds[column]):
            raise ConfigError(
                f"evaluation.slices: {column} is of the type {kinds[column]}; slices are made of categories"
            )
