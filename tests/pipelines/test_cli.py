"""The command line: quick help, clear usage errors."""

import subprocess
import sys
from pathlib import Path

import pytest

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
        (("recommend", "--user", "1"), "--config"),
        (("recommend", "--config", "configs/tiny.yaml"), "--user"),
        (("recommend", "--config", "configs/tiny.yaml", "--all"), "-o DIR"),
        (("recommend", "--config", "configs/tiny.yaml", "--user", "1", "-o", "there"), "-o DIR"),
        (
            ("recommend", "--config", "configs/tiny.yaml", "--queries", "q.jsonl", "-o", "there", "--user", "1"),
            "--user",
        ),
        (("run", "configs/tiny.yaml", "--set", "training.epochs"), "key=value"),
        (("tune", "configs/tiny.yaml", "--trials", "3"), "nothing to search"),
        (("tune", "configs/tiny.yaml", "--trials", "3", "--set", "tune={training.epoch: [1, 2]}"), "'epochs'"),
        (("tune", "configs/tiny.yaml"), "--trials"),
        (("evaluate", "configs/tiny.yaml"), "--version"),
        (("runs", "compare", "latest", "latest", "--page", "page.txt"), "ends with .html"),
        (("run",), "CONFIG"),
        (("nonsense",), "nonsense"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments, message):
    result = two_tower(*arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


def test_what_is_not_there_is_named(tmp_path):
    workdir = ("--workdir", str(tmp_path))
    assert "no run is called 'latest'" in two_tower("runs", "show", *workdir).stderr
    assert "abc" in two_tower("registry", "show", "abc", *workdir).stderr
    assert "no champion" in two_tower("recommend", "--config", "configs/tiny.yaml", "--history", "1", *workdir).stderr
    result = two_tower("evaluate", "configs/tiny.yaml", "--version", "abc", *workdir)
    assert result.returncode == 1 and "no version 'abc'; there are: none" in result.stderr
    assert "no champion" in two_tower("evaluate", "configs/tiny.yaml", "--version", "champion", *workdir).stderr
