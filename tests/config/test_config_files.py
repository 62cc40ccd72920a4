import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from schema_check import violations

from pipelines.datasets import make_dataset
from two_tower.config import Config, canonical_json, json_schema, load_config, parse_section
from two_tower.errors import DataError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]


def test_there_is_a_configuration_for_every_data_set() -> None:
    assert {"complete_journey", "ml_100k", "online_retail", "synthetic", "text_search", "tiny"} <= set(NAMES)


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_every_file_validates(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert config.description
    assert config.evaluation.baselines and config.evaluation.gate and not config.evaluation.gate_is_default


@pytest.mark.parametrize("page", ["README.md", "docs/data.md"])
def test_the_first_configuration_that_is_shown_compares_with_the_champion(page: str, tmp_path: Path) -> None:
    (text, *_) = re.findall(r"^```yaml\n(.*?)```", (CONFIGS[0].parents[1] / page).read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.yaml").write_text(text)
    config = load_config(tmp_path / "shop.yaml")
    assert config.name == "shop"
    assert [check.type for check in config.evaluation.checks] == ["not_worse_than_champion", "better_than_baseline"]


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_a_step_reads_the_same_settings_back(path: Path) -> None:
    config = load_config(path)
    for section in ("data", "model", "training", "embedding", "index", "evaluation", "beam"):
        settings = getattr(config, section)
        again = parse_section(type(settings), canonical_json(settings))
        assert again == settings
        assert canonical_json(again) == canonical_json(settings)
    assert parse_section(Config, canonical_json(config)) == config


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_the_json_schema_agrees(path: Path) -> None:
    schema = json_schema()
    assert list(violations(yaml.safe_load(path.read_text()), schema, schema)) == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("training", "batchsize", 3), ("training", "epochs", 0), ("training", "epochs", "3"), ("data", "recent", "P28D"),
     ("data", "recent", "28 days"), ("model", "temperature", 0), ("evaluation", "ks", []), ("index", "kind", "faiss")],
)  # fmt: skip
def test_the_json_schema_refuses_what_the_loader_refuses(section: str, key: str, value: Any) -> None:
    schema = json_schema()
    data = yaml.safe_load(CONFIGS[0].read_text())
    data.setdefault(section, {})[key] = value
    assert list(violations(data, schema, schema)) != []


def test_the_json_schemas_defaults_are_written_as_in_a_file() -> None:
    schema = json_schema()
    assert schema["$defs"]["DataSettings"]["properties"]["recent"]["default"] == "28d"

    def defaults(value: Any) -> None:
        if isinstance(value, dict):
            properties = value.get("properties", {})
            for name, inner in properties.items():
                if isinstance(inner, dict) and "default" in inner and inner["default"] is not None:
                    rule = {key: rule for key, rule in inner.items() if key != "default"}
                    assert list(violations(inner["default"], rule, schema)) == [], name
            for inner in value.values():
                defaults(inner)

    defaults(schema)


def columns_of(folder: Path, source: Any) -> set[str]:
    return set(pq.read_schema(folder / source.path).names)


@pytest.mark.parametrize("name", ["tiny", "synthetic", "complete_journey", "text_search", "online_retail"])
def test_every_column_stands_in_its_data_set(name: str, tmp_path: Path) -> None:
    options = {"users": 30, "items": 100, "per_user": 5} if name in ("tiny", "synthetic") else {}
    try:
        folder = make_dataset(name, tmp_path, **options)
    except DataError as error:
        pytest.skip(str(error))
    data = load_config(next(path for path in CONFIGS if path.stem == name)).data
    logs = columns_of(folder, data.interactions)
    assert {column for column in data.interactions.columns.model_dump().values() if column} <= logs
    assert {filter_.column for filter_ in data.interactions.filters} <= logs
    assert {feature.column or key for key, feature in data.query.context.items()} <= logs
    for table in (data.items, data.users):
        if table is not None:
            features = {feature.column or key for key, feature in table.features.items()}
            kept = {*getattr(table, "display", []), *getattr(table, "attributes", [])}
            assert {table.id, *features, *kept} <= columns_of(folder, table)
