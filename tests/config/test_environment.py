"""Environment files: due times in their time zone, placeholders, and errors that name the key."""

import itertools
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from two_tower.config import Environment, ScheduleSettings, load_config, load_environment
from two_tower.errors import ConfigError

ROOT = Path(__file__).parents[2]
BERLIN = ZoneInfo("Europe/Berlin")


def schedule(**settings) -> ScheduleSettings:
    return ScheduleSettings.model_validate({"config": "configs/tiny.yaml", "cron": "0 3 * * *", **settings})


def times(found: ScheduleSettings, after: datetime, count: int = 3) -> list[str]:
    """The next due times on the clock on the wall."""
    return [
        due.astimezone(found.zone).isoformat(timespec="minutes")
        for due in itertools.islice(found.times(after), count)
    ]  # fmt: skip


def test_the_examples_validate_and_fit_their_configurations():
    files = sorted((ROOT / "configs" / "environments").glob("*.yaml"))
    assert files
    for path in files:
        for found in load_environment(path).schedules.values():
            load_config(ROOT / found.config, found.overrides(datetime.now(UTC)))


def test_the_documented_environment_validates(tmp_path):
    example = (ROOT / "docs" / "scheduling.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "shop.yaml").write_text(example)
    assert list(load_environment(tmp_path / "shop.yaml").schedules) == ["full", "nightly"]


def test_times_are_in_the_schedules_zone():
    found = schedule(time_zone="Europe/Berlin")
    assert [due.isoformat() for due in itertools.islice(found.times(datetime(2026, 1, 1, tzinfo=UTC)), 2)] == [
        "2026-01-01T02:00:00+00:00",
        "2026-01-02T02:00:00+00:00",
    ]


def test_a_due_time_is_not_later_than_itself():
    due = datetime(2026, 1, 1, 3, tzinfo=UTC)
    assert next(schedule().times(due)) == datetime(2026, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # In the night to 2026-03-29 the clock goes from 2 to 3.
        ("30 2 * * *", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("0 3 * * *", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T03:00+02:00"]),
        ("0,30 2 * * *", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        ("30 * * * *", "2026-03-29T01:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]),
        # In the night to 2026-10-25 it goes from 3 back to 2.
        ("30 2 * * *", "2026-10-24T12:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("30 * * * *", "2026-10-25T02:00", ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"]),
    ],
)
def test_nights_on_which_the_clock_changes(cron, after, expected):
    found = schedule(cron=cron, time_zone="Europe/Berlin")
    assert times(found, datetime.fromisoformat(after).replace(tzinfo=BERLIN), 2) == expected


def test_within_the_hour_that_occurs_twice_no_time_comes_again():
    found = schedule(cron="30 2 * * *", time_zone="Europe/Berlin")
    second = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    assert times(found, second, 1) == ["2026-10-26T02:30+01:00"]


def test_start_belongs_to_the_schedule_and_end_does_not():
    found = schedule(start="2026-01-02T03:00", end="2026-01-04T03:00", time_zone="Asia/Tokyo")
    assert times(found, datetime(2020, 1, 1, tzinfo=UTC), 9) == ["2026-01-02T03:00+09:00", "2026-01-03T03:00+09:00"]


def test_a_day_stands_for_its_first_moment(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text(
        "schedules:\n  nightly: {config: c.yaml, cron: '0 0 * * *', time_zone: Asia/Tokyo, start: 2026-01-02,\n"
        "    end: 2026-01-03T00:00:01Z}\n"
    )
    found = load_environment(path).schedules["nightly"]
    assert found.first == datetime(2026, 1, 1, 15, tzinfo=UTC)
    assert found.last == datetime(2026, 1, 3, 0, 0, 1, tzinfo=UTC)


def test_placeholders_become_the_due_time_in_the_schedules_zone():
    found = schedule(
        time_zone="Europe/Berlin",
        set={
            "data.interactions.path": ["logs/date={date-1d}/*", "logs/{date-2w:%Y/%m/%d}"],
            "data.interactions.filters": [{"column": "at", "op": "<", "value": "{time-24h}"}],
            "description": "until {time}, from {date-7d}",
            "training.epochs": 2,
        },
    )
    due = datetime(2026, 10, 24, 23, tzinfo=UTC)  # 1 o'clock in Berlin, on the day that the clock goes back
    assert found.overrides(due) == [
        'data.interactions.path=["logs/date=2026-10-24/*", "logs/2026/10/11"]',
        'data.interactions.filters=[{"column": "at", "op": "<", "value": "2026-10-24T01:00:00+02:00"}]',
        'description="until 2026-10-25T01:00:00+02:00, from 2026-10-18"',
        "training.epochs=2",
    ]


def test_what_is_set_reaches_the_configuration():
    found = schedule(set={"training.warm_start": True, "description": "the night {date} = {date-1d}: 'x' \"y\" ü"})
    config = load_config(ROOT / found.config, found.overrides(datetime(2026, 1, 2, tzinfo=UTC)))
    assert config.training.warm_start
    assert config.description == "the night 2026-01-02 = 2026-01-01: 'x' \"y\" ü"


def test_conditions_that_are_set_keep_what_is_written(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text(
        "set: {data.items.available: [{column: gone, op: '!=', value: Yes}], data.interactions.ranges.price.max: 1e3}\n"
        "schedules:\n  nightly:\n    config: configs/tiny.yaml\n    cron: '0 3 * * *'\n"
        "    set: {data.interactions.filters: [{column: country, op: in, value: [NO, 0120]}], training.refit: Yes}\n"
    )
    found = load_environment(path)
    sets = [*found.overrides(), *found.schedules["nightly"].overrides(datetime(2026, 1, 2, tzinfo=UTC))]
    config = load_config(ROOT / "configs" / "tiny.yaml", sets)
    assert config.data.interactions.filters[0].value == ["NO", "0120"]
    assert config.data.interactions.ranges["price"].max == "1e3"
    assert config.data.items.available[0].value == "Yes" and config.training.refit is True


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ({"cron": "0 3 * *"}, "cron", "five fields"),
        ({"cron": "0 0 3 * * *"}, "cron", "five fields"),
        ({"cron": "0 3 L * *"}, "cron", "five fields"),
        ({"cron": "0 3 * * 5L"}, "cron", "five fields"),
        ({"cron": "0 3 * * 5#2"}, "cron", "five fields"),
        ({"cron": "0 24 * * *"}, "cron", "hour"),
        ({"cron": "0 3 30 2 *"}, "cron", "day-of-month"),
        ({"time_zone": "Europe/Berln"}, "time_zone", "no time zone 'Europe/Berln'"),
        ({"catch_up": "some"}, "catch_up", "'all'"),
        ({"when_busy": "queue"}, "when_busy", "'wait'"),
        ({"cronn": "x"}, "cronn", "did you mean 'cron'"),
        ({"start": "tomorrow"}, "start", "2026-12-01"),
        ({"start": "2026-01-02", "end": "2026-01-02"}, "", "start must be before end"),
        ({"set": {"a.b": "{yesterday}"}}, "set", "a.b: '{yesterday}'"),
        ({"set": {"a.b": ["{date-3h}"]}}, "set", "placeholder"),
        ({"set": {"a.b": "{time-1d}"}}, "set", "placeholder"),
        ({"set": {"a.b": "{date"}}, "set", "placeholder"),
    ],
)
def test_errors_name_the_file_the_line_and_the_key(tmp_path, settings, place, message):
    import yaml

    path = tmp_path / "env.yaml"
    content = {"schedules": {"nightly": {"config": "c.yaml", "cron": "0 3 * * *", **settings}}}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as error:
        load_environment(path)
    assert f"schedules.nightly{'.' if place else ''}{place}: " in str(error.value)
    assert message in str(error.value) and f"{path}:" in str(error.value)


def test_an_unknown_section_and_a_bad_name_are_refused(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text("schedule: {}\n")
    with pytest.raises(ConfigError, match="did you mean 'schedules'"):
        load_environment(path)
    path.write_text("schedules: {'../up': {config: c.yaml, cron: '0 3 * * *'}}\n")
    with pytest.raises(ConfigError, match="pattern"):
        load_environment(path)
    path.write_text("[]\n")
    with pytest.raises(ConfigError, match=r"mapping with the keys vertex.*schedules"):
        load_environment(path)


@pytest.mark.parametrize(
    "asked", [{"cpu": "8 cores"}, {"cpu": "0"}, {"memory": "32"}, {"memory": "32GB"}, {"accelerator_count": 0}]
)
def test_a_machine_that_there_is_not_is_refused(asked):
    (key,) = asked
    with pytest.raises(ValueError, match=key):
        Environment.model_validate({"resources": {"train_towers": asked}})
