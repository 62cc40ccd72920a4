"""`make images` and cloudbuild.yaml, run with a program in place of docker that writes down what it is asked."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from components.build import IMAGE_OF

ROOT = Path(__file__).parents[2]
REPOSITORY = "europe-west4-docker.pkg.dev/acme/retrieval"
DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >>"$DOCKER_LOG"
case "$1 $2" in
"info ") exit ${NO_ENGINE:-0} ;;
"buildx build")
    while [ $# -gt 0 ]; do
        case "$1" in --target) target=$2 ;; --metadata-file) file=$2 ;; esac
        shift
    done
    [ "$target" != "${BROKEN:-}" ] || exit 1
    digest=$(printf %s "$target" | sha256sum | cut -c1-64)
    {
        printf '{\\n  "containerimage.config.digest": "sha256:%064d",\\n' 0
        printf '  "containerimage.digest": "sha256:%s"\\n}\\n' "$digest"
    } >"$file"
    ;;
esac
"""


class Checkout:
    """A commit that holds what the build reads."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder / "checkout", folder / "docker.log"
        (self.folder / "components").mkdir(parents=True)
        for name in (
            "Makefile",
            "Dockerfile",
            "pyproject.toml",
            "cloudbuild.yaml",
            ".gitignore",
            "components/images.sh",
        ):
            shutil.copyfile(ROOT / name, self.folder / name)
        docker = folder / "bin" / "docker"
        docker.parent.mkdir()
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "GIT_"))},
            "PATH": f"{docker.parent}{os.pathsep}{os.environ['PATH']}",
            "DOCKER_LOG": str(self.log),
        }
        self("git", "init", "-q")
        self("git", "add", ".")
        self("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a")
        self.commit = self("git", "rev-parse", "HEAD").stdout.strip()

    def __call__(self, *command: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess:
        result = subprocess.run(
            command, cwd=self.folder, env={**self.environment, **environment}, capture_output=True, text=True
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result

    def builds(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith("buildx build")]

    def images(self) -> dict[str, str]:
        return yaml.safe_load((self.folder / "build" / "images.yaml").read_text())["images"]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_pushed_images_are_named_by_digest_and_tagged_by_commit(checkout):
    checkout("make", "-s", "images", f"REPOSITORY={REPOSITORY}", "PUSH=1")
    images = checkout.images()
    assert images.keys() == set(IMAGE_OF.values())
    for target, image in images.items():
        assert re.fullmatch(rf"{REPOSITORY}/two-tower-{target}@sha256:[0-9a-f]{{64}}", image)
    assert len(set(images.values())) == len(images)
    for line in checkout.builds():
        assert re.findall(r"--tag (\S+)", line)[0].endswith(f":{checkout.commit}")
        assert f"TWO_TOWER_COMMIT={checkout.commit} " in line and "TWO_TOWER_VERSION=0.1.0 " in line
        assert "--push" in line and "latest" not in line


def test_the_cuda_variant_takes_the_place_of_the_training_image(checkout):
    checkout("make", "-s", "images", f"REPOSITORY={REPOSITORY}", "PUSH=1", "TARGETS=prep train-cuda embed index")
    assert checkout.images().keys() == set(IMAGE_OF.values())
    assert checkout.images()["train"].startswith(f"{REPOSITORY}/two-tower-train-cuda@sha256:")
    for both in ("train train-cuda", "prep train-cuda embed train"):
        assert "give train or train-cuda" in checkout("make", "-s", "images", f"TARGETS={both}", code=2).stderr


def test_without_an_engine_it_says_what_to_do(checkout):
    result = checkout("make", "-s", "images", code=2, NO_ENGINE="1")
    assert "no docker engine answers" in result.stderr and "gcloud builds submit" in result.stderr


def test_images_that_are_not_pushed_are_named_nowhere(checkout):
    checkout("make", "-s", "images", "TARGETS=prep")
    assert "--load" in checkout.builds()[0] and "--tag two-tower-prep:" in checkout.builds()[0]
    assert not (checkout.folder / "build" / "images.yaml").exists()


def test_a_push_needs_a_repository_and_a_commit(checkout):
    assert "REPOSITORY=" in checkout("make", "-s", "images", "PUSH=1", code=2).stderr
    (checkout.folder / "pyproject.toml").write_text("")
    result = checkout("make", "-s", "images", "PUSH=1", f"REPOSITORY={REPOSITORY}", code=2)
    assert "commit them first" in result.stderr


def test_a_failed_build_leaves_no_list_of_images(checkout):
    push = ("make", "-s", "images", f"REPOSITORY={REPOSITORY}", "PUSH=1")
    checkout(*push)
    checkout(*push, code=2, BROKEN="embed")
    assert not (checkout.folder / "build" / "images.yaml").exists()


@pytest.mark.parametrize("train", ["train", "train-cuda"])
def test_cloud_build_makes_every_target(checkout, train):
    text = (ROOT / "cloudbuild.yaml").read_text(encoding="utf-8")
    given = {"_REGION": "europe-west4", "_REPOSITORY": "retrieval", "_BUCKET": "acme-runs", "PROJECT_ID": "acme"}
    build = yaml.safe_load(text)
    values = {**build["substitutions"], **given, "_COMMIT": "c0ffee", "_TRAIN": train}
    used = set(re.findall(r"\$\{?(\w+)\}?", "\n".join(line for line in text.splitlines() if not line.startswith("#"))))
    assert used <= values.keys() | {"COMMIT_SHA"}
    assert {name for name in given if name in build["substitutions"]} == set()

    def filled(text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text)

    shutil.rmtree(checkout.folder / ".git")  # Cloud Build gets the files only
    for step in build["steps"]:
        assert re.search(r":\d+\.\d+\.\d+$", step["name"]), "a builder whose tag moves"
        environment = dict(filled(each).split("=", 1) for each in step.get("env", []))
        checkout(step.get("entrypoint", "docker"), *map(filled, step["args"]), **environment)
    assert checkout.images().keys() == set(IMAGE_OF.values())
    assert checkout.images()["train"].startswith(f"{REPOSITORY}/two-tower-{train}@sha256:")
    assert all("--cache-to type=registry" in line and "two-tower" in line for line in checkout.builds())
    objects = build["artifacts"]["objects"]
    assert filled(objects["location"]) == "gs://acme-runs/images/c0ffee"
    assert [(checkout.folder / path).exists() for path in objects["paths"]] == [True]
