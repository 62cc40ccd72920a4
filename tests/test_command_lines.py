"""Printed commands: pasted into a shell, they hand on exactly what was meant."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from pipelines import cli
from pipelines.cli import run as run_command
from pipelines.cli.shared import make_console
from pipelines.command_lines import command_line
from pipelines.runs import Run
from two_tower.registry import Registry

NASTY = [
    "$(id) 4", "Ann O'Neil 3", "-5", "--all", "`id`", "a;b|c&d", "a\\b", "*", "~", "!!", "#1", 'say "x"', "mug, red 3",
    "two\nlines", "tab\there", ":smile:", "[bold]x[/bold]", "[/]", "Жük", "=", "a=b", "7", " ",
]  # fmt: skip


@pytest.fixture
def pasted(tmp_path, monkeypatch):
    """Gives a printed line to a shell in which `two-tower` prints its arguments; what they were."""
    stand_in = tmp_path / "bin" / "two-tower"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def paste(line: str) -> list[str]:
        assert line.startswith("two-tower ")
        return json.loads(subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout)

    return paste


def understood(arguments):
    """The command's parameters as it reads the arguments."""
    command = typer.main.get_command(cli.app)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    return command.make_context("two-tower", list(arguments)).params


@pytest.mark.parametrize("text", NASTY)
def test_values_arrive_as_they_were(pasted, text):
    line = command_line("recommend", Path("configs/my shop.yaml"), user=text, context=[f"search={text}", "n=1"])
    found = understood(pasted(line))
    assert (found["config"], found["user"]) == (Path("configs/my shop.yaml"), text)
    assert found["context"] == [f"search={text}", "n=1"]


@pytest.mark.parametrize("name", ["my shop.yaml", "$HOME.yaml", "-x.yaml", "it's.yaml"])
def test_files_and_folders_arrive_as_they_were(pasted, tmp_path, name):
    found = understood(pasted(command_line("run", Path(name), workdir=tmp_path / "my runs")))
    assert found["config"].resolve() == tmp_path / name
    assert found["workdir"] == Path("my runs")


def test_what_is_the_default_or_not_given_is_left_out(pasted, tmp_path):
    assert pasted(command_line("registry", "list", workdir=tmp_path / "runs", env=None)) == ["registry", "list"]


@pytest.mark.parametrize("user", ["$(id) 4", "-5", ":smile: [x] 7"])
@pytest.mark.parametrize("overridden", [False, True])
def test_a_run_says_what_to_try_next_in_the_folder_and_the_file_that_it_was_given(
    pasted, tmp_path, monkeypatch, capsys, user, overridden
):
    run = Run.start(tmp_path / "my runs", name="shop", config_file="my shop.yaml", config={})
    run.decision, run.version = "promote", "abc123"
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "metrics.json").write_text(json.dumps({"gate": {"reason": "It is better."}}))
    run.step("evaluate_recall").outputs["evaluation"] = str(evaluation)
    monkeypatch.setattr(Registry, "champion", lambda self: SimpleNamespace(id="abc123"))
    monkeypatch.setattr("pipelines.local.recommend.example_query", lambda run: {"user": user})
    overrides = ["training.epochs=3"] if overridden else []
    assert run_command.print_verdict(run, Path("my shop.yaml"), overrides, make_console()) == 0
    line = capsys.readouterr().out.partition("next: ")[2]
    found = understood(pasted(line))
    assert (found["user"], found["workdir"]) == (user, Path("my runs"))
    assert (found["config"], found["version"]) == ((None, "abc123") if overridden else (Path("my shop.yaml"), None))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("recommend", "--version", "abc", "--user", "1"), ["registry", "list", "--workdir", "my runs"]),
        (("registry", "show", "abc"), ["registry", "list", "--workdir", "my runs"]),
        (("recommend", "my shop.yaml", "--user", "1"), ["run", "my shop.yaml", "--workdir", "my runs"]),
    ],
)
def test_commands_within_errors_name_the_folder(pasted, tmp_path, monkeypatch, capsys, arguments, expected):
    tiny = Path(__file__).parents[1] / "configs" / "tiny.yaml"
    (tmp_path / "my shop.yaml").write_text(tiny.read_text())
    monkeypatch.setattr(sys, "argv", ["two-tower", *arguments, "--workdir", "my runs"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert pasted(capsys.readouterr().err.split("`")[1]) == expected
