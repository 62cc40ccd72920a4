"""The time of a run in a configuration."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from two_tower.config import at_time, canonical_json, first_time, load_config
from two_tower.errors import ConfigError

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
NIGHT = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_the_first_text_that_is_a_time_counts():
    assert first_time("", "{{$.pipeline_job_schedule_time_utc}}", "2026-10-25T01:30:00Z") == NIGHT
    assert first_time("2026-10-25T01:30", "2020-01-01T00:00Z") == NIGHT, "without a zone it is in UTC"
    assert abs((first_time("", "") - datetime.now(UTC)).total_seconds()) < 60


def test_what_is_no_time_is_named():
    with pytest.raises(ConfigError, match="'tomorrow' is no time"):
        first_time("tomorrow")


def test_placeholders_below_data_are_filled_in_in_their_zone():
    sets = [
        "data.interactions.path=logs/day={date-1d}/*.parquet",
        'data.interactions.filters=[{column: time, op: "<", value: "{date}"}]',
    ]
    config = load_config(TINY, sets)
    found = at_time(config, datetime(2026, 10, 24, 23, 30, tzinfo=UTC), zone="Europe/Berlin")
    assert found.data.interactions.path == "logs/day=2026-10-24/*.parquet"
    assert found.data.interactions.filters[0].value == "2026-10-25"
    assert found.training == config.training


def test_a_configuration_without_placeholders_stays_to_the_letter():
    config = load_config(TINY)
    assert canonical_json(at_time(config, NIGHT)) == canonical_json(config)
