"""The environment of every image target, made on its own, with the DAG's steps run in it: a missing package shows."""

import ast
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from project import Project

from components.build import IMAGE_OF

# The environments and two runs are made before the first test: minutes, and more where much else runs.
pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
TARGETS = sorted(set(IMAGE_OF.values()))
ABSENT = {
    "prep": {"tensorflow", "scann", "implicit", "pytest"},
    "train": {"apache-beam", "scann", "implicit", "pytest", "google-cloud-aiplatform"},
    "embed": {"scann", "polars", "implicit", "tf-keras", "pytest"},
    "index": {"apache-beam", "tf-keras", "pytest", "google-cloud-aiplatform"},
}
"""What would make an image larger than it has to be."""

NOT_REACHED = {
    "prep": {"tensorflow": "two_tower.features.base", "tf_keras": "two_tower.features.base"},
    "embed": {"tf_keras": "two_tower.features.base"},
    "index": {"tf_keras": "two_tower.features.base"},
}
"""Imports inside functions that no step of the target calls: the layers of the feature types are for training."""

SYSTEM_LIBRARIES = {
    *("ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"),
    *("libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
}
"""What Debian's smallest image has."""
PACKAGES = {"libgomp1": "libgomp.so.1"}

SETTINGS = (
    "index.kind=scann",
    "training.refit=true",
    'evaluation.baselines=[{"type": "recent_popularity"}, {"type": "ials"}, {"type": "item_item"}]',
)
"""Beyond configs/tiny.yaml, so that the steps and the packages that it does without are needed."""


def python_of(image, target: str, folder: Path) -> str:
    """A command that does what `python3` does in the image: its variables, its working folder, none of this checkout.

    It writes its arguments to `calls` in its folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Compiled bytecode, which the image has from its build and this environment gets as it is used.
    values = {**image.variables(target), "PYTHONDONTWRITEBYTECODE": ""}
    variables = "".join(f"export {name}='{value}'\n" for name, value in values.items())
    script = folder / "python"
    script.write_text(
        f"#!/bin/sh\nunset PYTHONPATH VIRTUAL_ENV\n{variables}"
        f'printf \'%s\\n\' "$*" >>{folder}/calls\nmkdir -p "$HOME" && cd "$HOME" && exec python3 "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


class ProjectInImages(Project):
    """A checkout whose steps run in the environments of their images."""

    def __init__(self, folder: Path, images) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.images, self.pythons = images, folder / "pythons.json"
        self.use({target: python_of(images[target], target, folder / "bin" / target) for target in TARGETS})

    def use(self, pythons: dict[str, str]) -> None:
        self.pythons.write_text(json.dumps(pythons))

    def in_images(self, *arguments: str, code: int = 0) -> str:
        result = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("in_images.py")), str(self.pythons), *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=1500,
        )  # fmt: skip
        assert result.returncode == code, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def log(self) -> str:
        """The last lines of the newest step's log."""
        logs = [path for path in self.folder.glob("runs/2*/logs/*.log") if path.name != "runner.log"]
        newest = max(logs, key=lambda path: path.stat().st_mtime)
        return newest.read_text(errors="replace")[-3000:]


@pytest.fixture(scope="module")
def project(images, tmp_path_factory) -> ProjectInImages:
    """A run of the small data set that the gate refused, and one that it let through: every step in its image."""
    project = ProjectInImages(tmp_path_factory.mktemp("checkout") / "project", images)
    project.command("data", "tiny")
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    refusing = 'evaluation.gate=[{"type": "minimum", "metric": "recall@100", "at_least": 1.0}]'
    project.in_images("run", "configs/tiny.yaml", *settings, "--set", refusing, code=3)
    project.in_images("run", "configs/tiny.yaml", *settings)
    return project


def installed(image) -> dict[str, str]:
    """The versions by package."""
    result = subprocess.run(
        [str(image.venv / "bin" / "python"), "-m", "pip", "list", "--format=json"], capture_output=True, text=True
    )
    return {re.sub(r"[-_.]+", "-", each["name"].lower()): each["version"] for each in json.loads(result.stdout)}


def test_every_step_runs_in_its_image(project):
    for target in TARGETS:
        calls = (project.folder / "bin" / target / "calls").read_text()
        ran = set(re.findall(r"--function_to_execute (\w+)", calls))
        assert ran == {step for step, image in IMAGE_OF.items() if image == target}


def test_a_step_sees_its_image_and_not_the_checkout(project):
    script = project.folder / "bin" / "prep" / "python"
    found = subprocess.run(
        [str(script), "-c", "import sys, two_tower; print(sys.prefix, two_tower.__file__)"],
        cwd=project.folder, env=project.environment, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert found[0] == str(project.images["prep"].venv) and found[1].startswith(found[0])


@pytest.mark.parametrize(
    ("package", "module", "step"),
    [
        ("polars", "polars", "prepare_data"),
        ("tf-keras", "tf_keras", "train_towers"),
        ("pyarrow", "pyarrow", "embed_candidates"),
        ("implicit", "implicit", "evaluate_recall"),
    ],
)
def test_a_missing_package_fails_the_step(project, tmp_path, package, module, step):
    target = IMAGE_OF[step]
    image = project.images[target]
    lacking = tmp_path / "venv"
    shutil.copytree(image.venv, lacking, symlinks=True, copy_function=os.link)
    uv = image.folder / "opt" / "uv" / "bin" / "uv"
    subprocess.run([str(uv), "pip", "uninstall", "-q", "--python", str(lacking), package], check=True)
    script = Path(python_of(image, target, tmp_path / "bin"))
    script.write_text(script.read_text().replace(str(image.venv), str(lacking)))
    pythons = json.loads(project.pythons.read_text())
    whole = next(run["run_id"] for run in project.runs() if run["decision"] == "promote" and run["state"] == "finished")
    project.use({**pythons, target: str(script)})
    try:
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        project.in_images("step", step, "configs/tiny.yaml", "--run", whole, *settings, code=1)
        assert f"No module named '{module}'" in project.log()
    finally:
        project.use(pythons)


@pytest.mark.parametrize("target", TARGETS)
def test_an_environment_holds_what_is_locked_and_no_more(images, target):
    lock = set(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    versions = installed(images[target])
    seed = {"two-tower", "pip", "setuptools"}  # the last two are what `python -m venv` brings
    assert {(name, version) for name, version in versions.items() if name not in seed} - lock == set()
    assert versions.keys() & ABSENT[target] == set()


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_needs_no_library_that_it_lacks(images, dockerfile, target):
    packages = images[target].venv / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    commands = " ".join(each.value for each in dockerfile.instructions(target, "RUN"))
    there = SYSTEM_LIBRARIES | {library for package, library in PACKAGES.items() if package in commands}
    files = [path for path in packages.rglob("*.so*") if path.is_file() and "implicit/gpu" not in str(path)]
    wanted = {library: path for path in files for library in needed(path)}
    lacking = wanted.keys() - there - {path.name for path in files}
    assert {library: str(wanted[library]) for library in lacking} == {}


def needed(path: Path) -> list[str]:
    """The libraries that a 64-bit ELF file names as needed."""
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        return []
    (offset,), (size, count) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + number * size) for number in range(count)]
    names = []
    for section in (each for each in sections if each[1] == 6):  # the dynamic section; its link is the string table
        strings = sections[section[6]][4]
        for position in range(section[4], section[4] + section[5], 16):
            tag, value = struct.unpack_from("<qQ", data, position)
            if tag == 1:
                start = strings + value
                names.append(data[start : data.index(b"\0", start)].decode())
    return names


@pytest.mark.parametrize("target", TARGETS)
def test_whatever_a_step_may_import_is_installed(images, target):
    """Also what no run on this machine needs, such as the client of Cloud Storage."""
    wanted = {}
    for step in (step for step, image in IMAGE_OF.items() if image == target):
        for module, file in reached(f"components.{step}.component"):
            wanted.update(dict.fromkeys(foreign_imports(file), module))
    program = (
        "import importlib.util, json, sys\n"
        "def there(name):\n"
        "    try:\n        return importlib.util.find_spec(name) is not None\n"
        "    except ModuleNotFoundError:\n        return False\n"
        "print(json.dumps([name for name in json.loads(sys.argv[1]) if not there(name)]))"
    )
    python = images[target].venv / "bin" / "python"
    result = subprocess.run(
        [str(python), "-c", program, json.dumps(sorted(wanted))], capture_output=True, text=True, check=True
    )
    missing = {name: wanted[name] for name in json.loads(result.stdout.splitlines()[-1])}
    assert missing == NOT_REACHED.get(target, {})


def reached(module: str) -> list[tuple[str, Path]]:
    """The project's modules that `module` imports anywhere, itself included."""
    from pipelines.dag import fingerprint

    seen, waiting = {}, [module]
    while waiting:
        current = waiting.pop()
        file = fingerprint._file_of(current)
        if current not in seen and file is not None:
            seen[current] = file
            waiting += fingerprint._imports(current)
    return list(seen.items())


def foreign_imports(file: Path) -> set[str]:
    """The modules from outside the project and the standard library that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module)
    ours = {"two_tower", "components", "pipelines"}
    return {name for name in names if name.split(".")[0] not in ours | set(sys.stdlib_module_names)}


def test_the_cuda_variant_adds_the_locked_wheels_of_nvidia_and_nothing_else(images, dockerfile):
    """Without fetching them: uv says what it would install into the environment of `train`."""
    image = images["train"]
    (install,) = [
        each.value
        for each in dockerfile.instructions("train-cuda-venv", "RUN")
        if "requirements-cuda.lock" in each.value
    ]
    shutil.copyfile(ROOT / "requirements-cuda.lock", image.folder / "build" / "requirements-cuda.lock")
    told = image.run(install.replace("pip install", "pip install --dry-run"), "train-venv", image.folder / "build")
    lock = re.findall(r"^(nvidia-\S+==\S+)", (ROOT / "requirements-cuda.lock").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"^ \+ (\S+)", told, re.MULTILINE)) == sorted(lock)
    assert not re.findall(r"^ - ", told, re.MULTILINE)


LEFT_OUT = {
    "base": {"kfp", "tensorflow", "apache-beam", "scann", "polars", "typer", "rich", "google-cloud-storage"},
    "serve": {"kfp", "apache-beam", "tensorflow-recommenders", "tf-keras", "typer", "google-cloud-storage"},
    "pipelines": {"tensorflow", "apache-beam", "scann", "polars", "matplotlib"},
}
"""What an install does without."""

READ = """
import two_tower as tt
import pyarrow.parquet as pq

version = tt.Registry("runs/registry", tt.load_config("configs/tiny.yaml").name).champion()
evaluation = tt.Evaluation.open(version.evaluation)
print(tt.__version__)
print(tt.version_id(version.query_tower, version.candidate_tower, version.index) == version.id)
print(tt.Prepared.open("PREPARED").queries("test").num_rows == evaluation.queries > 0)
print(pq.read_table(version.items)["available"].to_pylist().count(True) == evaluation.candidates)
"""
RECOMMEND = """
import two_tower as tt

users = tt.EveryUser(tt.Prepared.open("PREPARED"))
recommender = tt.Recommender.open(tt.Registry("runs/registry", "tiny").champion())
print(recommender.recommend(users.one("USER"), 10).item_ids)
"""


def run_install(project, *command: str | Path) -> subprocess.CompletedProcess:
    """Runs a program of a fresh environment where the runs are, with nothing of this checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [*map(str, command)], cwd=project.folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def promoted(project) -> dict[str, str]:
    """The promoting run's prepared data, the version, and a user of it."""
    from two_tower.data import open_prepared

    (run,) = [run for run in project.runs() if run["decision"] == "promote" and run["state"] == "finished"]
    (step,) = [step for step in run["steps"] if step["name"] == "prepare_data"]
    prepared = step["outputs"]["prepared"]
    users = open_prepared(prepared).queries("test")["user_id"]
    return {"PREPARED": prepared, "VERSION": run["version"], "USER": users[0].as_py()}


def filled(program: str, values: dict[str, str]) -> str:
    """The program with the values in place of their names."""
    return re.sub("|".join(values), lambda match: values[match[0]], program)


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_an_install_holds_what_is_locked_and_leaves_out_what_it_does_not_need(installs, name):
    lock = set(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    listed = "from importlib.metadata import distributions\nfor each in distributions(): print(each.name, each.version)"
    result = subprocess.run([str(installs[name] / "python"), "-I", "-c", listed], capture_output=True, text=True)
    lines = (line.split() for line in result.stdout.splitlines())
    versions = {re.sub(r"[-_.]+", "-", package.lower()): version for package, version in lines}
    assert {each for each in versions.items() if each[0] != "two-tower"} - lock == set()
    assert "two-tower" in versions and versions.keys() & LEFT_OUT[name] == set()


def test_the_base_install_reads_configurations_artefacts_and_versions(project, installs, promoted):
    found = run_install(project, installs["base"] / "python", "-I", "-c", filled(READ, promoted))
    assert found.stdout.split() == [version("two-tower"), "True", "True", "True"], found.stderr


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (
            RECOMMEND,
            "two_tower.data.EveryUser needs the package polars (No module named 'polars'): "
            "pip install 'two-tower[serve]'",
        ),
        (
            "import two_tower as tt; tt.Recommender.open('runs/registry/tiny/versions/VERSION')",
            "a query tower needs the package tensorflow (No module named 'tensorflow'): pip install 'two-tower[serve]'",
        ),
        (
            "from two_tower.registry import Registry; Registry('gs://bucket/registry', 'tiny').champion()",
            "a place on gs:// needs the package google-cloud-storage (No module named 'google'): "
            "pip install 'two-tower[gcs]'",
        ),
        (
            "from two_tower.data import prepare",
            "two_tower.data.prepare needs the package polars (No module named 'polars'): pip install 'two-tower[prep]'",
        ),
    ],
)
def test_the_base_install_names_the_extra_that_is_missing(project, installs, promoted, program, expected):
    failed = run_install(project, installs["base"] / "python", "-I", "-c", filled(program, promoted))
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == f"two_tower.errors.MissingPackage: {expected} brings it"


def test_the_command_of_the_base_install_says_in_one_line_what_it_needs(project, installs):
    failed = run_install(project, installs["base"] / "two-tower", "--help")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "error: the command two-tower needs the package typer (No module named 'typer'): "
        "pip install 'two-tower[pipelines]' brings it\n"
    )


def test_the_serve_install_recommends_what_the_whole_project_does(project, installs, promoted):
    program = filled(RECOMMEND, promoted)
    served = run_install(project, installs["serve"] / "python", "-I", "-c", program)
    whole = run_install(project, sys.executable, "-c", program)
    assert len(ast.literal_eval(served.stdout)) == 10, served.stderr
    assert served.stdout == whole.stdout


def test_the_pipelines_install_has_the_command(project, installs, promoted):
    command = installs["pipelines"] / "two-tower"
    assert "recommend" in run_install(project, command, "--help").stdout
    assert run_install(project, command, "--version").stdout == f"two-tower {version('two-tower')}\n"
    assert run_install(project, command, "config", "check", "configs/tiny.yaml").stdout == "configs/tiny.yaml: fine\n"
    assert promoted["VERSION"] in run_install(project, command, "registry", "list").stdout
    compiled = run_install(project, command, "compile", "configs/tiny.yaml", "-o", "tiny-pipeline.yaml")
    assert compiled.returncode == 0, compiled.stderr
    failed = run_install(project, command, "run", "configs/tiny.yaml", "--workdir", "other-runs")
    assert failed.returncode == 1 and "pip install 'two-tower[prep]' brings it" in failed.stdout
    failed = run_install(project, command, "recommend", "--version", promoted["VERSION"], "--history", "a")
    assert (failed.returncode, failed.stderr) == (
        2,
        "error: a query tower needs the package tensorflow (No module named 'tensorflow'): "
        "pip install 'two-tower[serve]' brings it\n",
    )
