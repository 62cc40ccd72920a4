"""A small pipeline with what the real one has: artefacts in a bucket, a condition, an exit handler, a failing step."""

from pathlib import Path

from kfp import compiler, dsl

DIGEST = "sha256:" + "ab" * 32
IMAGE = f"europe-west4-docker.pkg.dev/shop-project/two-tower/toy@{DIGEST}"


def write_text(text: str, count: int, written: dsl.Output[dsl.Dataset]) -> str:
    """Writes a text to its artefact in the bucket; says whether it is long."""
    from google.cloud import storage

    blob = storage.Blob.from_uri(f"{written.uri}/text.txt", client=storage.Client())
    blob.upload_from_string(text * count)
    written.metadata["length"] = len(text) * count
    return "long" if len(text) * count > 10 else "short"


def read_text(written: dsl.Input[dsl.Dataset], as_of: str, fail: bool) -> str:
    """Reads the artefact from the bucket, or fails."""
    import os
    from pathlib import Path

    from google.cloud import storage

    print("as of", as_of, "metadata", written.metadata, "run folder", os.environ.get("TWO_TOWER_RUN_FOLDER"))
    if fail:
        raise ValueError("ordered to fail")
    if Path(written.path).exists():
        raise RuntimeError(f"there is a mount at {written.path}")
    return storage.Blob.from_uri(f"{written.uri}/text.txt", client=storage.Client()).download_as_text()


def say(text: str) -> str:
    """Says something."""
    print("said", text)
    return text


def sleep(seconds: int):
    """Takes its time."""
    import time

    time.sleep(seconds)


def toy_pipeline(image: str = IMAGE):
    """write-text -> read-text -> [long] say, [short] say-2; and say-goodbye, whatever happened."""

    def component(function):
        return dsl.component(function, base_image=image, install_kfp_package=False)

    write, read, talk = component(write_text), component(read_text), component(say)

    @dsl.pipeline(name="toy")
    def toy(text: str, count: int = 4, fail: bool = False):
        goodbye = talk(text="goodbye").set_display_name("say-goodbye").set_caching_options(False)
        with dsl.ExitHandler(goodbye, name="toy-body"):
            written = write(text=text, count=count)
            readable = read(
                written=written.outputs["written"],
                as_of=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
                fail=fail,
            ).set_caching_options(False)
            with dsl.If(written.outputs["Output"] == "long", name="long"):
                talk(text=readable.output)
            with dsl.If(written.outputs["Output"] == "short", name="short"):
                talk(text="short").after(readable)

    return toy


def slow_pipeline(image: str = IMAGE):
    """One step that takes a minute or so."""
    take_time = dsl.component(sleep, base_image=image, install_kfp_package=False)

    @dsl.pipeline(name="slow")
    def slow(seconds: int = 60):
        take_time(seconds=seconds)

    return slow


def compiled(pipeline, folder: Path) -> str:
    """The path of a compiled pipeline in `folder`."""
    file = folder / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(file))
    return str(file)
