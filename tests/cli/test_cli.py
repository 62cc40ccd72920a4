"""The command line: quick help, clear usage errors."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipelines.runs import Run, list_runs

ROOT = Path(__file__).parents[2]


def two_tower(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['two-tower', '--help']\n"
        "import pipelines.cli\n"
        "try: pipelines.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'kfp', 'tensorflow', 'apache_beam', 'scann', 'numpy', 'pyarrow', 'polars', 'pydantic', 'optuna'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "recommend" in result.stdout


def test_component_modules_import_nothing_heavy():
    code = (
        "import sys, importlib\n"
        "from components.build import IMAGE_OF\n"
        "for step in IMAGE_OF: importlib.import_module(f'components.{step}.component')\n"
        "heavy = {'tensorflow', 'apache_beam', 'scann', 'polars', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_the_configuration_is_read_without_heavy_imports():
    code = (
        "import sys\n"
        "from two_tower.config import load_config\n"
        "load_config('configs/tiny.yaml')\n"
        "heavy = {'kfp', 'tensorflow', 'apache_beam', 'scann', 'polars', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_the_version_is_the_installed_one():
    assert two_tower("--version").stdout == f"two-tower {version('two-tower')}\n"


@pytest.mark.parametrize(
    ("typed", "expected"), [("two-tower ru", "run\nruns\n"), ("two-tower registry ro", "rollback\n")]
)
def test_a_shell_completes_what_is_typed(typed, expected):
    asked = {"_TWO_TOWER_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    program = "import sys; sys.argv = ['two-tower']; from pipelines.__main__ import program; program()"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env={**os.environ, **asked}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.stdout == expected, result.stderr


def test_config_check_reports_every_file_and_ends_with_2(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "configs" / "tiny.yaml").read_text().replace("epochs:", "epoch:"))
    result = two_tower("config", "check", "configs/tiny.yaml", str(wrong))
    assert result.returncode == 2
    assert "configs/tiny.yaml: fine" in result.stdout
    assert "training.epoch" in result.stderr and "did you mean 'epochs'" in result.stderr


def test_config_schema_is_json():
    import json

    schema = json.loads(two_tower("config", "schema").stdout)
    assert {"data", "training", "evaluation"} <= set(schema["properties"])


def test_compile_writes_a_pipeline_file(tmp_path):
    out = tmp_path / "pipeline.yaml"
    assert two_tower("compile", "configs/tiny.yaml", "-o", str(out)).returncode == 0
    assert "deploymentSpec" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compile", "configs/tiny.yaml", "-o", "nowhere/p.yaml"), "nowhere"),
        (("compile", "configs/tiny.yaml", "-o", "p.yaml", "--image", "gpu=x"), "gpu"),
        (("recommend", "--user", "1"), "either CONFIG"),
        (
            ("recommend", "--config", "my shop.yaml", "--user", "1"),
            "recommend 'my shop.yaml'` takes the file as `run` does",
        ),
        (("recommend", "configs/tiny.yaml"), "--user"),
        (("recommend", "configs/tiny.yaml", "--all"), "-o DIR"),
        (("recommend", "configs/tiny.yaml", "--user", "1", "-o", "there"), "-o DIR"),
        (
            ("recommend", "configs/tiny.yaml", "--queries", "q.jsonl", "-o", "there", "--user", "1"),
            "--user",
        ),
        (("run", "configs/tiny.yaml", "--set", "training.epochs"), "key=value"),
        (("tune", "configs/tiny.yaml", "--trials", "3"), "nothing to search"),
        (("tune", "configs/tiny.yaml", "--trials", "3", "--set", "tune={training.epoch: [1, 2]}"), "'epochs'"),
        (("tune", "configs/tiny.yaml"), "--trials"),
        (("evaluate", "configs/tiny.yaml"), "--version"),
        (("runs", "compare", "latest", "latest", "--page", "page.txt"), "ends with .html"),
        (("recommend", "--version", "a", "--user", b"\xff"), r"'\udcff': not UTF-8 text"),
        (("recommend", "--version", "a", "--user", "1", "--k", "9" * 30), "100000"),
        (("run",), "CONFIG"),
        (("data", "chekc", "configs/tiny.yaml"), "data chekc: no such data set or command; did you mean 'check'?"),
        (("data", "tinny"), "did you mean 'tiny'?"),
        (("data", "tiny", "--set", "users={"), "--set users: not valid YAML"),
        (("data", "tiny", "--set", f"users={'9' * 5000}"), "--set users: not valid YAML"),
        (("registry", "prune", "configs/tiny.yaml", "--days", "9" * 30), "365000"),
        (("config", "show", "configs"), "configs: cannot read the configuration"),
        (("nonsense",), "nonsense"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments, message):
    result = two_tower(*arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


TUNED = ("--set", "tune={model.dim: [8, 16]}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs", "list", "--workdir", "setup.py"), "--workdir setup.py: setup.py is a file; name a folder"),
        (("runs", "show", "--workdir", "setup.py/runs"), "--workdir setup.py/runs: setup.py is a file; name a folder"),
        (("runs", "list", "--workdir", "x" * 300), f"{'x' * 300}: File name too long"),
        (("run", "configs/tiny.yaml", "--workdir", "/proc/runs"), "/proc/runs: No such file or directory"),
        (("tune", "configs/tiny.yaml", "--trials", "1", "--workdir", "/proc/runs", *TUNED), "/proc/runs: No such file"),
        (("compile", "configs/tiny.yaml", "-o", "/proc/p.yaml"), "/proc/p.yaml: No such file or directory"),
        (("data", "tiny", "--out", "setup.py"), "--out setup.py: setup.py is a file; name a folder"),
        (("data", "tiny", "--out", "/proc/data"), "/proc/data: No such file or directory"),
        (("evaluate", "configs/tiny.yaml", "--version", "a", "-o", "setup.py"), "--out setup.py: setup.py is a file"),
        (("recommend", "--version", "a", "--all", "-o", "setup.py/x"), "--out setup.py/x: setup.py is a file"),
    ],
)
def test_an_error_of_the_system_is_one_line_and_ends_with_2(arguments, message):
    result = two_tower(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    for _ in range(2):
        Run.start(tmp_path, name="shop", config_file="shop.yaml", config={}).save()
    first, second = (run.run_id for run in list_runs(tmp_path))
    result = two_tower("runs", "compare", first, second, "--workdir", str(tmp_path), "--page", "/proc/page.html")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert result.stderr.startswith("error: /proc/") and "No such file or directory" in result.stderr


def test_an_internal_error_keeps_its_traceback():
    code = (
        "import sys; sys.argv = ['two-tower', 'config', 'schema']\n"
        "import two_tower.config\n"
        "two_tower.config.json_schema = lambda: 1 / 0\n"
        "from pipelines.__main__ import program; program()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ZeroDivisionError" in result.stderr


def test_what_is_not_there_is_named(tmp_path):
    workdir = ("--workdir", str(tmp_path))
    assert "no run is called 'latest'" in two_tower("runs", "show", *workdir).stderr
    assert "abc" in two_tower("registry", "show", "abc", *workdir).stderr
    assert "starts with ''" in two_tower("recommend", "--version", "", "--user", "1", *workdir).stderr
    assert "no champion" in two_tower("recommend", "configs/tiny.yaml", "--history", "1", *workdir).stderr
    result = two_tower("evaluate", "configs/tiny.yaml", "--version", "abc", *workdir)
    assert result.returncode == 1 and "no version 'abc'; there are: none" in result.stderr
    assert "no champion" in two_tower("evaluate", "configs/tiny.yaml", "--version", "champion", *workdir).stderr
