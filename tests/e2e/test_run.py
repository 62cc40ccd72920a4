"""Runs of the whole DAG: the first, the cached, the partly cached, the refused, the failed.

The tests share one checkout and its cache; each leaves the configuration, the code and the data as it found them.
"""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import kept, kill, wait_for

pytestmark = pytest.mark.e2e

STEPS = [
    "resolve_inputs", "prepare_data", "check_prepared", "train_towers", "export_candidate_tower", "embed_candidates",
    "build_index", "export_query_tower", "evaluate_recall", "promote", "write_report",
]  # fmt: skip
ALWAYS = {"resolve_inputs", "write_report", "report_failure"}


def text_of(page: Path) -> str:
    """A page's text, without the tags, some of which mark where a long word may break."""
    return re.sub(r"<[^>]+>", "", page.read_text())


def ran(project) -> set[str]:
    return {name for name, state in project.states().items() if state == "ran"}


def test_the_first_run_promotes_a_version_and_says_what_to_do_next(project, first_run):
    assert ran(project) == {*STEPS, "report_failure"}
    (run,) = project.runs()
    assert run["decision"] == "promote"
    assert project.champion() == run["version"]
    assert "recall@10" in first_run and "recent_popularity" in first_run
    assert "report:" in first_run and re.search(r"next: \S*two-tower recommend", first_run)
    report = project.folder / "runs" / run["run_id"] / "report.html"
    assert len(report.read_text()) > 50_000


def test_a_second_run_with_nothing_changed_only_measures_against_the_new_champion(project, first_run):
    before = project.champion()
    project.command("run", "configs/tiny.yaml")
    assert ran(project) == {*ALWAYS, "evaluate_recall"}, "the champion's id is news for evaluate_recall alone"
    project.command("run", "configs/tiny.yaml")
    assert ran(project) == ALWAYS
    assert project.runs()[-1]["decision"] == "keep"
    assert project.champion() == before


@pytest.mark.slow
def test_a_changed_line_of_the_training_code_trains_again(project, first_run):
    (path,) = [
        path
        for path in (project.folder / "two_tower" / "model").glob("*.py")
        if re.search(r"^def train\(", path.read_text(), re.MULTILINE)
    ]
    text = path.read_text()
    try:
        path.write_text(text + "\n# one more line\n")
        count = len(project.runs())
        process = project.start("run", "configs/tiny.yaml")
        trains = wait_for(
            lambda: len(project.runs()) > count and project.states()["train_towers"] == "running", process=process
        )
        assert trains and project.states()["prepare_data"] == "cached"
        kill(process, group=True)
    finally:
        path.write_text(text)


def test_a_changed_input_file_is_noticed(project, first_run):
    (path,) = (project.folder / "data" / "tiny").glob("interactions*.parquet")
    with kept(path):
        path.write_text("these are words")
        result = project.command("run", "configs/tiny.yaml", code=1)
    assert project.states()["prepare_data"] == "failed", "no answer of the cache"
    assert path.name in result.stdout and "Traceback" not in result.stdout


def test_another_index_needs_no_training_and_an_impossible_floor_refuses_it_with_exit_code_3(project, first_run):
    before = project.champion()
    floor = "evaluation.gate=[{type: minimum, metric: recall@100, at_least: 0.999}]"
    result = project.command("run", "configs/tiny.yaml", "--set", "index.kind=scann", "--set", floor, code=3)
    assert ran(project) == {*ALWAYS, "check_prepared", "build_index", "evaluate_recall", "keep_refused"}
    assert "0.999" in result.stdout
    assert project.champion() == before
    refused = project.runs()[-1]["version"]
    shown = project.command("registry", "show", refused).stdout
    assert f"version {refused}, refused" in shown and "recall@100 >= 0.999" in shown


SMALL_EASE = ("--set", "evaluation.baselines=[{type: recent_popularity}, {type: ease, max_items: 100}]")
ABOVE_EASE = "evaluation.gate=[{type: better_than_baseline, metric: recall@100, baseline: ease, blocking: %s}]"


def test_a_blocking_baseline_that_does_not_fit_ends_the_run_before_the_training(project, first_run):
    result = project.command("run", "configs/tiny.yaml", *SMALL_EASE, "--set", ABOVE_EASE % "true", code=1)
    states = project.states()
    assert states["check_prepared"] == "failed" and states["train_towers"] == "skipped"
    cause = "evaluation.gate.0: recall@100 above ease blocks promotion, but the baseline ease does not fit these data"
    assert f"check_prepared failed: {cause}" in result.stdout and "more than max_items: 100" in result.stdout
    page = text_of(project.folder / "runs" / project.runs()[-1]["run_id"] / "report.html")
    assert page.index(cause) < page.index("The step check_prepared failed") < page.index("How to go on")
    assert page.index("How to go on") < page.index("check_prepared started") and "executor_main" not in page
    assert "KFP Executor" not in page and "parameterValues" not in page


def test_an_advisory_baseline_that_does_not_fit_is_a_line_in_the_report(project, first_run):
    said = project.command("run", "configs/tiny.yaml", *SMALL_EASE, "--set", ABOVE_EASE % "false").stdout
    assert ran(project) == {*ALWAYS, "check_prepared", "evaluate_recall"}
    assert "the baseline ease does not fit these data and will be left out" in said
    assert re.search(r"^left out: the baseline ease: [\d,]+ items were taken, more than max_items: 100", said, re.M)
    assert "skipped" in said and project.runs()[-1]["decision"] == "keep"
    shown = project.command("runs", "show", "latest").stdout
    assert re.search(rf"from the cache: .*train_towers.* in runs/artifacts/{project.runs()[0]['run_id']}\n", shown)
    report = text_of(project.folder / "runs" / project.runs()[-1]["run_id"] / "report.html")
    assert "The baseline ease is left out:" in report and "more than max_items: 100" in report


def test_a_trial_measures_on_validation_and_decides_nothing(project, first_run):
    before = project.champion()
    said = project.command("try", "configs/tiny.yaml").stdout
    assert ran(project) == {*ALWAYS, "check_prepared", "evaluate_recall"}
    run = project.runs()[-1]
    assert (run["kind"], run["decision"], project.champion()) == ("try", "try", before)
    assert not run["config"]["training"]["refit"]
    assert "validation queries" in said and "no test query was read" in said and "next: " in said
    evaluation = Path(next(step for step in run["steps"] if step["name"] == "evaluate_recall")["outputs"]["evaluation"])
    metrics = json.loads((evaluation / "metrics.json").read_text())
    assert metrics["split"] == "validation" and "recent_popularity" in metrics["systems"]
    report = text_of(project.folder / "runs" / run["run_id"] / "report.html")
    assert "Tried" in report and "validation queries ranked against" in report


def test_one_step_runs_alone_on_an_earlier_runs_artefacts(project, first_run):
    run = project.runs()[0]["run_id"]
    result = project.command("step", "build_index", "configs/tiny.yaml", "--run", run, "--set", "index.kind=exact")
    folder = Path(re.search(r"index: (\S+)", result.stdout)[1])
    assert (folder / "manifest.json").is_file()
    assert ran(project) == {"build_index"}


def test_recommend_answers_for_a_user_and_for_a_history(project, first_run):
    by_user = project.command(*re.search(r"next: \S*two-tower (.*)", first_run)[1].split(), "--k", "5").stdout
    assert len(re.findall(r"^│ +\d+ │", by_user, re.MULTILINE)) == 5
    assert "items of the past left out" in by_user, "the configuration excludes what was seen"
    items = pq.read_table(next((project.folder / "runs" / "registry").rglob("vocabulary/items.parquet")))
    history = ",".join(items["item_id"].to_pylist()[:3])
    by_history = ("recommend", "configs/tiny.yaml", "--history", history, "--k", "7", "--no-exclude-seen")
    shown = project.command(*by_history).stdout
    assert len(re.findall(r"^│ +\d+ │", shown, re.MULTILINE)) == 7 and "left out" not in shown
    unknown = project.command("recommend", "configs/tiny.yaml", "--user", "nobody", code=1)
    assert "nobody" in unknown.stderr


def test_recommend_writes_the_items_of_every_user(project, first_run):
    everybody = ("recommend", "configs/tiny.yaml", "--all", "-o", "mail", "--k", "5")
    shown = project.command(*everybody).stdout
    assert re.search(r"mail: (\d+) of \1 queries with up to 5 items; \1 now in ", shown)
    rows = pq.read_table(project.folder / "mail/part-00000.parquet").to_pylist()
    asked = re.search(r"next: \S*two-tower (.*)", first_run)[1].split()
    alone = project.command(*asked, "--k", "5").stdout
    (among,) = [row for row in rows if row["user_id"] == asked[-1]]
    assert re.findall(r"^│ +\d+ │ (\S+)", alone, re.MULTILINE) == among["items"]
    assert "all were there already" in project.command(*everybody).stdout
    assert "k is 5 there, 6 here" in project.command(*everybody[:-1], "6", code=1).stderr


def test_runs_and_the_registry_can_be_looked_at_and_rolled_back(project, first_run):
    run = project.runs()[0]["run_id"]
    assert re.search(rf"{run} │ run +│", project.command("runs", "list").stdout)
    shown = project.command("runs", "show", run).stdout
    assert "train_towers" in shown and f"artefacts: runs/artifacts/{run}\n" in shown
    assert (project.folder / "runs" / "artifacts" / run / "train-towers" / "trained" / "manifest.json").is_file()
    first, *_, last = [run["run_id"] for run in project.runs() if run["version"]]
    assert "recall@10" in project.command("runs", "compare", first, last).stdout
    champion = project.champion()
    assert champion in project.command("registry", "list").stdout
    assert "recall@10" in project.command("registry", "show", champion[:8]).stdout


def test_wrong_configuration_is_refused_before_anything_runs(project, first_run):
    count = len(project.runs())
    result = project.command("run", "configs/tiny.yaml", "--set", "training.epoch=3", code=2)
    assert "training.epoch" in result.stderr and "'epochs'" in result.stderr
    assert project.command("run", "configs/nothing.yaml", code=2).stderr.count("configs/nothing.yaml")
    assert project.command("step", "no_such_step", "configs/tiny.yaml", "--run", "latest", code=2)
    assert project.command("run", code=2)
    assert len(project.runs()) == count


@pytest.mark.slow
def test_broken_rows_are_set_aside_and_counted_in_the_report(project):
    """Missing ids, unparsable times, duplicates and a future date, in a CSV log; the run goes on."""
    import pyarrow.csv as pc

    (path,) = (project.folder / "data" / "tiny").glob("interactions*.parquet")
    folder = project.folder / "data" / "broken"
    folder.mkdir(exist_ok=True)
    for table in path.parent.glob("*.parquet"):
        if not table.name.startswith("interactions"):
            (folder / table.name).write_bytes(table.read_bytes())
    pc.write_csv(pq.read_table(path), folder / "interactions.csv")
    lines = (folder / "interactions.csv").read_text().splitlines()
    header = [name.strip('"') for name in lines[0].split(",")]
    fields = lines[1].split(",")

    def row(**changes: str) -> str:
        return ",".join(changes.get(name, value) for name, value in zip(header, fields, strict=True))

    columns = json.loads(project.command("config", "show", "configs/tiny.yaml").stdout)["data"]["interactions"][
        "columns"
    ]
    bad = [
        row(**{columns["user"]: ""}),
        row(**{columns["item"]: ""}),
        row(**{columns["time"]: "yesterday"}),
        row(**{columns["time"]: "2999-01-01T00:00:00Z"}),
        row(),
    ]
    (folder / "interactions.csv").write_text("\n".join([*lines, *bad]) + "\n")
    source = ("--set", "dataset=broken", "--set", "data.interactions.path=interactions.csv")
    project.command("run", "configs/tiny.yaml", *source, "--workdir", "broken", code=None)
    run = project.runs("broken")[-1]
    assert run["state"] == "finished"
    prepared = Path(next(s for s in run["steps"] if s["name"] == "prepare_data")["outputs"]["prepared"])
    reasons = {"missing_user", "missing_item", "bad_time", "future_time", "duplicate"}
    assert json.loads((prepared / "summary.json").read_text())["rows"]["set_aside"] == dict.fromkeys(reasons, 1)
    report = text_of(project.folder / "broken" / run["run_id"] / "report.html")
    assert all(reason in report for reason in reasons)
    assert "yesterday" in report

    strict = ("--set", "data.interactions.max_bad_share=0.00001")
    refused = project.command("run", "configs/tiny.yaml", *source, *strict, "--workdir", "broken", code=1)
    assert "prepare_data failed" in refused.stdout and "max_bad_share" in refused.stdout
    page = text_of(project.folder / "broken" / project.runs("broken")[-1]["run_id"] / "report.html")
    assert "prepare_data" in page and "max_bad_share" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.interactions.columns.item=sku", "sku"),
        ("data.interactions.path=nothing.parquet", "nothing.parquet"),
    ],
)
def test_input_that_cannot_be_used_ends_with_a_clear_error(project, first_run, change, message):
    result = project.command("run", "configs/tiny.yaml", "--workdir", "unusable", "--set", change, code=1)
    assert message in result.stdout and "Traceback" not in result.stdout
    assert not list((project.folder / "unusable").rglob("manifest.json")), "nothing half-written"
