"""The Dockerfile as far as it can be read: what its stages install, as whom they run, what they say they are."""

import re
from pathlib import Path

import pytest
from metadata import requirements_of

from components.build import IMAGE_OF

ROOT = Path(__file__).parents[2]
TARGETS = {**{target: target for target in IMAGE_OF.values()}, "train-cuda": "train"}
"""The extra of every image target."""
LABELS = ("version", "revision", "source", "licenses", "title")
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def locked(file: str = "requirements.lock") -> dict[str, str]:
    """The versions by package."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))


def problems(dockerfile) -> list[str]:
    """What is wrong with the image targets."""
    found = [f"{target}: no stage" for target in TARGETS if target not in dockerfile.stages]
    for target in TARGETS.keys() & dockerfile.stages.keys():
        found += [f"{target}: {what}" for what in problems_of(dockerfile, target)]
    bases = {dockerfile.base(stage) for stage in dockerfile.stages}
    found += [
        f"{base}: a tag that moves" for base in bases if not re.search(r":\d+\.\d+\.\d+|@sha256:[0-9a-f]{64}", base)
    ]
    return found


def problems_of(dockerfile, target: str) -> list[str]:
    found = []
    variables = dockerfile.variables(target, PATH="/usr/bin")
    users = [each.value for each in dockerfile.instructions(target, "USER")]
    user = users[-1].replace("${RUN_AS}", variables.get("RUN_AS", "")) if users else ""
    if not re.fullmatch(r"[1-9]\d+:[1-9]\d+", user):
        found.append(f"runs as {user or 'root'!r}, not as a number above 0")
    if "/opt/venv/bin" not in variables["PATH"].split(":"):
        found.append("its environment is not on the PATH")
    labels = dict(word.split("=", 1) for each in dockerfile.instructions(target, "LABEL") for word in each.words)
    found += [f"no label {name}" for name in LABELS if f"org.opencontainers.image.{name}" not in labels]
    found += [f"no variable {name}" for name in ("TWO_TOWER_COMMIT", "TWO_TOWER_VERSION") if name not in variables]
    for each in dockerfile.instructions(target, "RUN"):
        if re.search(r"\b(pip|uv|gcc|build-essential)\b", each.value):
            found.append(f"installs in the image itself: {each.value}")
    copies = {each.value: each.flags.get("from") for each in dockerfile.instructions(target, "COPY")}
    if not all(copies.values()):
        found.append("copies files of the checkout into the image")
    return found + problems_of_environment(dockerfile, target, copies.get("/opt/venv /opt/venv"))


def problems_of_environment(dockerfile, target: str, stage: str | None) -> list[str]:
    if stage not in dockerfile.stages:
        return ["copies no environment"]
    found = []
    if dockerfile.base(stage) != dockerfile.base(target):
        found.append("its environment was made with another Python")
    extra, beam = (
        TARGETS[target],
        {each.value: each.flags.get("from") for each in dockerfile.instructions(target, "COPY")},
    )
    installs = [each.value for each in dockerfile.instructions(stage, "RUN") if "pip install" in each.value]
    if not any(f"-r pyproject.toml --extra {extra}" in each for each in installs):
        found.append(f"does not install the extra {extra}")
    found += [
        f"installs something that is not locked: {each}"
        for each in installs
        if "--constraint requirements.lock" not in each and "--no-deps /wheels/*.whl" not in each
    ]
    boots = [each.value for each in dockerfile.instructions(target, "ENTRYPOINT")] == ['["/opt/apache/beam/boot"]']
    if any(each.startswith("apache-beam") for each in requirements_of(extra)):
        if not boots or beam.get("/opt/apache/beam /opt/apache/beam") != "beam":
            found.append("is no SDK container: it lacks Beam's boot program")
        if dockerfile.variables(target).get("RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT") != "1":
            found.append("Beam's workers would not see its environment")
        version = locked()["apache-beam"]
        if not dockerfile.base("beam").endswith(f":{version}") and "@" not in dockerfile.base("beam"):
            found.append(f"{dockerfile.base('beam')} is not of Beam {version}")
        pythons = [re.search(r"python:?(3\.\d+)", dockerfile.base(each)) for each in (stage, "beam")]
        if len({python and python[1] for python in pythons}) > 1:
            found.append("Beam's image has another Python")
    elif boots:
        found.append("starts Beam, which it does not have")
    return found


def test_every_image_target_is_as_it_should_be(dockerfile):
    assert problems(dockerfile) == []


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("FROM runtime AS embed", "FROM runtime AS embedding", "embed: no stage"),
        ("ARG RUN_AS=10001:10001", "ARG RUN_AS=0:0", "train: runs as '0:0'"),
        ("USER ${RUN_AS}\n", "", "index: runs as 'root'"),
        ("USER ${RUN_AS}\n", "USER step\n", "prep: runs as 'step'"),
        ("--constraint requirements.lock -r pyproject.toml --extra index", "-r pyproject.toml --extra index",
         "index: installs"),
        ("pyproject.toml --extra embed", "pyproject.toml --extra prep", "embed: does not install the extra embed"),
        ("--from=embed-venv", "--from=nothing", "embed: copies no environment"),
        ("beam_python3.11_sdk:2.77.0", "beam_python3.11_sdk:2.76.0", "is not of Beam 2.77.0"),
        ("beam_python3.11_sdk:2.77.0", "beam_python3.12_sdk:2.77.0", "Beam's image has another Python"),
        ("beam_python3.11_sdk:2.77.0", "beam_python3.11_sdk:latest", "a tag that moves"),
        ("python:3.11.14-slim-bookworm", "python:3.11-slim", "python:3.11-slim: a tag that moves"),
        ("ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1\n", "", "prep: Beam's workers would not see its environment"),
        ("      org.opencontainers.image.revision=${TWO_TOWER_COMMIT} \\\n", "", "train: no label revision"),
        ("COPY --from=index-venv", "COPY pyproject.toml .\nCOPY --from=index-venv",
         "index: copies files of the checkout"),
        ("COPY --from=index-venv", "RUN pip install x\nCOPY --from=index-venv", "index: installs in the image itself"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(read_dockerfile, right, wrong, expected):
    assert right in TEXT
    found = problems(read_dockerfile(TEXT.replace(right, wrong)))
    assert any(expected in each for each in found), found


def test_what_is_copied_is_there_and_is_all_that_the_builder_gets(dockerfile, is_sent):
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    copied = {
        source
        for stage in dockerfile.stages
        for each in dockerfile.instructions(stage, "COPY")
        if "from" not in each.flags
        for source in each.words[:-1]
    }
    assert {path for path in copied if not (ROOT / path).exists()} == set()
    assert {path.name for path in ROOT.iterdir() if is_sent(path.name, ignored)} == copied


def test_every_package_of_an_image_is_locked():
    versions = locked()
    for target in set(TARGETS.values()):
        for requirement in requirements_of(target):
            name, _, version = re.match(r"([\w.-]+)(?:\[\w+\])?(==)?([\w.]*)", requirement).groups()
            assert name in versions, f"{target}: {requirement} is not in requirements.lock; run `make lock`"
            assert not version or "==" not in requirement or versions[name] == version


def test_the_locks_name_no_index_and_the_cuda_wheels_are_in_one_of_them_only():
    for file in ("requirements.lock", "requirements-cuda.lock"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not re.search(r"://|^\s*-", text, re.MULTILINE), file
    assert all(name.startswith("nvidia-") for name in locked("requirements-cuda.lock"))
    assert not any(name.startswith("nvidia-") for name in locked())
