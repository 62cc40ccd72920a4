from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from two_tower.config import (
    Config,
    FilterSettings,
    Range,
    TrainingSettings,
    canonical_json,
    json_schema,
    load_config,
    merged_yaml,
    parse_section,
)
from two_tower.errors import ConfigError

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def broken(tmp_path: Path, old: str, new: str) -> tuple[Path, int]:
    """tiny.yaml with `old` replaced, and the line (from 1) that `old` stands in."""
    text = TINY.read_text()
    assert text.count(old) == 1
    path = tmp_path / "broken.yaml"
    path.write_text(text.replace(old, new))
    return path, text[: text.index(old)].count("\n") + 1


def complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("batch_size: 256", "batchsize: 256", "training.batchsize: unknown key; did you mean 'batch_size'?"),
        (
            "exclude_seen: true",
            "exclude_sen: true",
            "evaluation.exclude_sen: unknown key; did you mean 'exclude_seen'?",
        ),
        (
            "price: {type: numeric, log: true}",
            "price: {type: numeric, lg: true}",
            "data.items.features.price.lg: unknown",
        ),
        (
            "price: {type: numeric, log: true}",
            "price: {type: numric}",
            "price.type: there is no 'numric'; did you mean 'num",
        ),
        (
            "price: {type: numeric, log: true}",
            "price: {log: true}",
            "data.items.features.price.type: this key is required",
        ),
        (
            "price: {type: numeric, log: true}",
            "pri-ce: {type: numeric}",
            "data.items.features.pri-ce: String should match",
        ),
        (
            "type: minimum, metric",
            "type: minimum, metrik",
            "evaluation.gate.2.metrik: unknown key; did you mean 'metric'?",
        ),
        (
            "type: minimum, metric",
            "type: minimun, metric",
            "evaluation.gate.2.type: there is no 'minimun'; did you mean 'minimum'?",
        ),
        (
            "{type: popularity}",
            "{type: popular}",
            "evaluation.baselines.0.type: there is no 'popular'; did you mean 'pop",
        ),
        ("type: full_softmax", "type: hinge", "training.loss.type: there is no 'hinge' (known: "),
        (
            "type: global_time",
            "type: globaltime",
            "data.split.type: there is no 'globaltime'; did you mean 'global_time'?",
        ),
        ("epochs: 3", "epochs: many", "training.epochs: Input should be a valid integer"),
        ("epochs: 3", "epochs: 0", "training.epochs: Input should be greater than or equal to 1"),
        ("temperature: 0.1", "temperature: .inf", "model.temperature: Input should be a finite number"),
        ("temperature: 0.1", "temperature: .nan", "model.temperature: Input should be a finite number"),
        ("test: 14d", "test: fortnight", "data.split.test: expected a duration such as '14d'"),
        ("test: 14d", "test: 0d", "data.split.test: expected more than nothing"),
        ("test: 14d", "test: 99999999999999w", "data.split.test: expected more than nothing"),
        ("kind: exact", "kind: faiss", "index.kind: Input should be 'auto', 'exact' or 'scann'"),
        ("name: tiny", "name: Tiny Shop", "name: String should match pattern"),
    ],
)
def test_an_error_names_the_line_the_full_path_and_the_nearest_key(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    path, line = broken(tmp_path, old, new)
    message = complaint(path)
    assert message.startswith(f"{path}:{line}: ")
    assert expected in message
    assert "\n" not in message


def test_the_errors_of_all_sections_are_told_at_once(tmp_path: Path) -> None:
    path, _ = broken(tmp_path, "epochs: 3", "epochs: 0\n  batch_size: 1")
    path.write_text(path.read_text().replace("  batch_size: 256\n", ""))
    lines = complaint(path, "model.dim=1", "index.kin=exact").splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "model.dim",
        "training.epochs",
        "training.batch_size",
        "index.kin",
    ]


def test_a_missing_key_is_named_at_its_section(tmp_path: Path) -> None:
    path, line = broken(tmp_path, "    id: item_id\n", "")
    assert complaint(path) == f"{path}:{line - 2}: data.items.id: this key is required"
    path, line = broken(tmp_path, "  items:\n    path: items.parquet\n", "  items:\n")
    assert complaint(path) == f"{path}:{line}: data.items: needs a path, or bigquery instead of it"


def test_a_misspelt_section_is_named_beside_the_one_it_lacks(tmp_path: Path) -> None:
    path, line = broken(tmp_path, "training:", "trainig:")
    assert f"{path}:{line}: trainig: unknown key; did you mean 'training'?" in complaint(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a mapping with the keys name"),
        ("- a\n", "expected a mapping with the keys name"),
        ("a: [\n", "not valid YAML"),
        ("a: b\0", "not valid YAML"),
        ("\ta: b\n", "not valid YAML"),
        ("a: &a [*a]\n", "an alias stands inside of what it refers to"),
        ("name: tiny\nname: tiny\n", "broken.yaml:2: the key 'name' stands twice"),
        ("data:\n  x: {a: 1, a: 2}\n", "broken.yaml:2: the key 'a' stands twice"),
        ("3: 4\n", "broken.yaml:1: 3: unknown key"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert expected in complaint(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "cannot read the configuration" in complaint(tmp_path / "absent.yaml")
    assert "cannot read the configuration" in complaint(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("description: caf\xe9".encode("latin-1"))
    assert "cannot read the configuration" in complaint(tmp_path / "latin.yaml")


@pytest.mark.parametrize("content", ["index:", "index: exact", "index: [exact]", "index: 3"])
def test_a_section_that_is_no_mapping_is_named(tmp_path: Path, content: str) -> None:
    path, line = broken(tmp_path, "index:\n  kind: exact", content)
    assert complaint(path).startswith(f"{path}:{line}: index: ")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("{column: a, op: in, value: 3}", "filters.0: value must be a list"),
        ('{column: a, op: "~", value: 3}', "filters.0.op: Input should be '==', '!='"),
        ('{column: a, op: "=="}', "filters.0: value is missing"),
        ("{op: not_null}", "filters.0.column: this key is required"),
        ('{column: a, op: "==", value: null}', "filters.0: value is missing; quote null where the text is meant"),
        ("{column: a, op: in, value: [x, ~]}", "filters.0.value: a list cannot hold null; quote it"),
        ('{column: a, op: "==", value: [x]}', "filters.0: value is a list, which only the operators in and not_in"),
        ('{column: a, op: "==", value: {x: y}}', "filters.0.value: expected a text, a number, a time, or true"),
    ],
)
def test_filters_need_what_their_operator_needs(tmp_path: Path, filters: str, expected: str) -> None:
    path, _ = broken(tmp_path, "    events:", f"    filters: [{filters}]\n    events:")
    assert f"data.interactions.{expected}" in complaint(path)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluation.shown=[recall@10, ndcg@7]"],
         "evaluation: shown asks for ndcg@7, which is not measured (ks: 10, 100"),
        (["evaluation.shown=[auc@10]"], "evaluation.shown.0: "),
        (["evaluation.ks=[10]"], "evaluation: gate.1 asks for recall@100, which is not measured (ks: 10)"),
        (["evaluation.baselines=[]"], "gate.1 asks for recent_popularity, which is not measured (baselines: none)"),
        (["evaluation.gate.1.baseline=recent_popularty"],
         "gate.1 asks for recent_popularty, which is not measured; did you mean 'recent_popularity'? (baselines: "),
        (["evaluation.gate.2.system=two_towers"],
         "gate.2 asks for two_towers, which is not measured; did you mean 'two_tower'? (systems: two_tower, "),
        (["evaluation.gate.2.slice=tails"],
         "gate.2 asks for tails, which is not measured; did you mean 'tail'? (slices: returning_users, "),
        (["evaluation.gate.2.slice=user.country=FR"],
         "gate.2 asks for user.country=FR, which is not measured (slices: none)"),
        (["evaluation.gate.2.slice=user.cuntry=FR", "evaluation.slices=[user.country]"],
         "gate.2 asks for user.cuntry=FR, which is not measured; did you mean 'user.country'? (slices: user.country)"),
        (["evaluation.gate.2.slice=user.country", "evaluation.slices=[user.country]"],
         "gate.2 asks for user.country, which is not measured (slices: returning_users, "),
        (["data.interactions.columns.user=null"], "data: users needs interactions.columns.user"),
        (["data.interactions.columns.event=null"], "data.interactions: events needs columns.event"),
        (["data.interactions.columns.user=null", "data.users=null", "data.split={type: leave_last_out}"],
         "data: split needs interactions.columns.user"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_found_before_anything_runs(
    overrides: list[str], expected: str
) -> None:
    assert expected in complaint(TINY, *overrides)


def test_validation_counts_what_the_test_counts_unless_it_says_otherwise() -> None:
    rules = {
        (): (True, "miss"),
        ("evaluation.repeats=leave_out", "evaluation.exclude_seen=false"): (False, "leave_out"),
        ("evaluation.repeats=leave_out", "training.repeats=miss"): (True, "miss"),
    }
    for overrides, expected in rules.items():
        training = load_config(TINY, overrides).training
        assert (training.exclude_seen, training.repeats) == expected


def test_overrides_replace_add_and_remove() -> None:
    config = load_config(
        TINY,
        [
            "training.epochs=7",
            "training.seed=1",
            "training.seed=2",
            "evaluation.ks.0=5",
            "data.items.features.price.log=false",
            "training.loss={type: in_batch}",
            "model.query.hidden=[64, 32]",
            "resources.train_towers.cpu='4'",
            "beam.options.direct_num_workers=2",
            "description=a=b",
            "data.split.test=2w",
            "data.users=null",
        ],
    )
    assert config.training.epochs == 7 and config.training.seed == 2
    assert config.evaluation.ks == [5, 100, 1000]
    assert config.training.loss.type == "in_batch"
    assert config.model.query.hidden == [64, 32]
    assert config.resources["train_towers"].cpu == "4"
    assert config.beam.options == {"direct_num_workers": 2}
    assert config.description == "a=b"
    assert config.data.split.test.days == 14  # type: ignore[union-attr]
    assert config.data.users is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs", "expected key=value"),
        ("=3", "expected key=value"),
        ("training.epochs={", "the value is not valid YAML"),
        ("description=*x", "the value is not valid YAML"),
        ("training.epochs=&a [*a]", "an alias stands inside of what it refers to"),
        ("evaluation.ks.9=5", "'9' is not an index of a list of 3"),
        ("evaluation.ks.-1=5", "'-1' is not an index of a list of 3"),
        ("evaluation.ks.x=5", "'x' is not an index of a list of 3"),
        ("training.epochs.x=2", "there is nothing under 'x' to set"),
        ("training.epoch=7", "training.epoch: unknown key; did you mean 'epochs'?"),
        ("traning.epochs=7", "traning: unknown key; did you mean 'training'?"),
        ("training..epochs=7", "unknown key"),
        ("training.epochs=0", "training.epochs: Input should be greater than or equal to 1"),
        ("resources.train_tower.cpu=4", "resources.train_tower: Input should be 'resolve_inputs'"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override: str, expected: str) -> None:
    assert expected in complaint(TINY, override)


def test_yaml_merges_are_no_repeated_keys(tmp_path: Path) -> None:
    text = (
        TINY.read_text()
        .replace("candidate: {", "candidate: &tower {")
        .replace("query: {hidden: [32],", "query: {<<: *tower,")
    )
    (tmp_path / "tiny.yaml").write_text(text)
    assert load_config(tmp_path / "tiny.yaml").model.query.hidden == [32]


def test_settings_are_frozen() -> None:
    config = load_config(TINY)
    with pytest.raises(ValueError, match="frozen"):
        config.training.epochs = 9  # type: ignore[misc]


def test_a_section_that_does_not_validate_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="Training section"):
        parse_section(TrainingSettings, '{"epochs": 3, "what": 1}')
    with pytest.raises(ConfigError, match="Training section"):
        parse_section(TrainingSettings, "{")


def test_every_key_of_the_schema_belongs_to_a_model_that_refuses_others() -> None:
    for name, definition in json_schema()["$defs"].items():
        assert definition.get("additionalProperties") is False or "enum" in definition, name


def test_importing_the_configuration_imports_no_heavy_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys, two_tower.config; two_tower.config.load_config(sys.argv[1])\n"
        "print(sorted({'tensorflow', 'apache_beam', 'scann', 'kfp', 'pandas', 'polars'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code, str(TINY)], text=True).strip() == "[]"


def test_durations_are_written_back_as_they_are_read() -> None:
    for text, back in {"14d": "2w", "36h": "36h", "90m": "90m", "24 h": "1d", "61s": "61s", "1w": "1w"}.items():
        config = load_config(TINY, [f"data.recent={text}"])
        assert config.data.model_dump(mode="json")["recent"] == back


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("restricts=[colour, size]", "restricts: 'size' is not among data.items.attributes (colour, price)"),
        ("numeric_restricts=[stock]", "numeric_restricts: 'stock' is not among data.items.attributes (colour, price)"),
        (
            "crowding=attribute.colour",
            "crowding: 'attribute.colour' is not among data.items.attributes (colour, price)",
        ),
    ],
)
def test_vector_search_restricts_by_attributes_alone(override: str, expected: str) -> None:
    attributes, key = "data.items.attributes=[colour, price]", "index.vector_search"
    assert complaint(TINY, attributes, f"{key}.{override}").endswith(f"{key}.{expected}")
    assert complaint(TINY, f"{key}.{override}").endswith("is not among data.items.attributes (none)")
    named = load_config(TINY, [attributes, f"{key}.restricts=[colour]", f"{key}.crowding=colour"])
    assert named.index.vector_search.restricts == ["colour"]
    assert load_config(TINY, [attributes]).index.vector_search.restricts is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("restricts=[colour, colour]", "restricts and numeric_restricts: 'colour' stands there twice"),
        ("leaf_nodes_to_search_percent=101", "leaf_nodes_to_search_percent: Input should be less than or equal to 100"),
        ("approximate_neighbors_count=0", "approximate_neighbors_count: Input should be greater than or equal to 1"),
        ("leaf_node_embedding_count=0", "leaf_node_embedding_count: Input should be greater than or equal to 1"),
        ("index_update_method=NEVER", "index_update_method: Input should be 'BATCH_UPDATE' or 'STREAM_UPDATE'"),
    ],
)
def test_vector_search_settings_out_of_range(override: str, expected: str) -> None:
    assert expected in complaint(TINY, "data.items.attributes=[colour]", f"index.vector_search.{override}")


@pytest.mark.parametrize("key", ["yes", "0", "on", "1.0", "0120", "2024-01-01", "null", "~"])
def test_kinds_of_events_are_the_texts_that_stand_there(tmp_path: Path, key: str) -> None:
    path, _ = broken(tmp_path, "{purchase: 1.0, view: 0.3}", f"{{{key}: 2, <<: {{no: 3}}}}")
    events = load_config(path).data.interactions.events
    assert {name: event.weight for name, event in events.items()} == {key: 2, "no": 3}
    overridden = load_config(path, [f"data.interactions.events={{{key}: 5}}"]).data.interactions.events
    assert {name: event.weight for name, event in overridden.items()} == {key: 5}


def conditioned(tmp_path: Path, section: str) -> Path:
    """tiny.yaml with these lines in the section of the interactions."""
    return broken(tmp_path, "    events:", f"{section}\n    events:")[0]


@pytest.mark.parametrize(
    "written",
    ["NO", "0120", "1e6", "true", "Yes", "off", "1_000", "+7", "0x1F", "12:30:45", "2024-02-01", "2024-02-01 08:00:00",
     "2024-02-31", ".5", ".inf", "DK", "17850", "1.0", "\\N"],
)  # fmt: skip
def test_conditions_keep_what_stands_in_the_file(tmp_path: Path, written: str) -> None:
    filters = [
        f'{{column: a, op: "==", value: {written}}}',
        f"{{column: a, op: in, value: [{written}, x]}}",
        f"{{column: a, op: \"<\", value: '{written}'}}",
    ]
    ranges = f"{{a.b: {{min: {written}, max: '{written}'}}}}"
    path = conditioned(tmp_path, f"    filters: [{', '.join(filters)}]\n    ranges: {ranges}")
    available = f'[{{column: a, op: "!=", value: {written}}}]'
    config = load_config(path, [f"data.items.available={available}"])
    one, several, quoted = config.data.interactions.filters
    bounds = config.data.interactions.ranges["a.b"]
    assert (one.value, several.value, quoted.value) == (written, [written, "x"], written)
    assert (bounds.min, bounds.max) == (written, written)
    assert config.data.items is not None and config.data.items.available[0].value == written
    assert parse_section(Config, canonical_json(config)) == config
    path.write_text(merged_yaml(path, [], config=config, keys=[]))
    assert load_config(path).data.interactions == config.data.interactions


@pytest.mark.parametrize(
    "override",
    [
        "data.interactions.filters.0.value=NO",
        "data.interactions.filters.0={column: country, op: ==, value: NO}",
        'data.interactions.filters=[{"column": "country", "op": "==", "value": NO}]',
        'data.interactions={path: x, columns: {item: i, user: u, time: t}, filters: [{column: c, op: "<", value: NO}]}',
    ],
)
def test_what_is_set_is_kept_as_it_is_written_too(tmp_path: Path, override: str) -> None:
    path = conditioned(tmp_path, '    filters: [{column: country, op: "==", value: 1e6}]')
    assert load_config(path, [override]).data.interactions.filters[0].value == "NO"
    listed = load_config(path, ["data.interactions.filters.0={column: c, op: in, value: [NO, 0120, 'x']}"])
    assert listed.data.interactions.filters[0].value == ["NO", "0120", "x"]
    changed = load_config(path, ["data.interactions.ranges.price.max=1e3", "data.interactions.ranges.price.min=null"])
    assert changed.data.interactions.ranges["price"].max == "1e3"
    assert changed.data.interactions.ranges["price"].min is None


def test_anchors_aliases_and_merges_keep_what_is_written(tmp_path: Path) -> None:
    path = conditioned(
        tmp_path,
        '    filters:\n      - &one {column: country, op: "==", value: &no NO}\n      - {<<: *one, op: "!="}\n'
        "      - {column: country, op: in, value: [*no, 010]}\n    max_rate: {events: &many 010}",
    )
    config = load_config(path, ["data.interactions.max_rate.per=1d"])
    assert [condition.value for condition in config.data.interactions.filters] == ["NO", "NO", ["NO", "010"]]
    assert config.data.interactions.max_rate is not None and config.data.interactions.max_rate.events == 8


def test_elsewhere_yaml_means_what_it_means(tmp_path: Path) -> None:
    path = conditioned(tmp_path, "    max_bad_share: 0.5")
    config = load_config(path, ["training.refit=yes", "beam.options.dates=[2024-02-01, NO, 0x10, ~]"])
    assert config.training.refit and config.data.interactions.max_bad_share == 0.5
    assert config.beam.options["dates"] == [date(2024, 2, 1), False, 16, None]
    assert "description: Input should be a valid string" in complaint(path, "description=on")


def test_a_day_that_there_is_not_is_a_text() -> None:
    assert load_config(TINY, ["description=2024-02-31"]).description == "2024-02-31"


def test_conditions_made_in_python_are_texts() -> None:
    def value(given: Any) -> Any:
        return FilterSettings(column="c", op="in" if isinstance(given, list) else "==", value=given).value

    assert [value(one) for one in (4, 4.5, 1e300, True, False, "NO", Decimal("1.10"), date(2024, 2, 1))] == [
        "4", "4.5", "1e+300", "true", "false", "NO", "1.10", "2024-02-01",
    ]  # fmt: skip
    assert value([datetime(2024, 2, 1, 8, tzinfo=UTC), 1]) == ["2024-02-01T08:00:00+00:00", "1"]
    assert Range(min=1, max=date(2024, 2, 1)) == Range(min="1", max="2024-02-01")
