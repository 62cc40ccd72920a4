"""Ending a process: what Python does at its end is done, what native code does is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABORTS = "import ctypes; libc = ctypes.CDLL(None); libc.on_exit(libc.abort, None)\n"
"""Stands for native code that does not survive the teardown of a process."""


def python(code, *arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", ABORTS + code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("config", "check", "configs/tiny.yaml"), 0), (("run", "nowhere.yaml"), 2), (("data", "check"), 2)],
)
def test_the_commands_exit_code_survives_native_code_that_does_not(arguments, code):
    result = python("from pipelines.__main__ import program; program()", *arguments)
    assert result.returncode == code
    assert python("from pipelines.cli import main; main()", *arguments).returncode < 0, "nothing aborted"


def test_what_is_registered_for_the_end_is_done_before_it(tmp_path):
    code = """
import atexit, pathlib, sys, tempfile, threading, time
from components.ending import end_with

def main():
    folder = tempfile.TemporaryDirectory(dir=".")
    main.folder = folder
    atexit.register(print, "at exit")
    threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
    print("main")
    sys.exit(5)

end_with(main)
"""
    result = python(code, cwd=tmp_path)
    assert (result.returncode, result.stdout.splitlines()) == (5, ["main", "thread", "at exit"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise SystemExit", 0, ""),
        ("sys.exit('a word')", 1, "a word\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_exit_codes_are_pythons(body, code, said):
    result = python(f"import sys\nfrom components.ending import end_with\ndef main(): {body}\nend_with(main)")
    assert result.returncode == code
    assert said in result.stderr and ("Traceback" in result.stderr) == ("Error" in said)


@pytest.mark.parametrize(("module", "code"), [("kfp.dsl.executor_main", 1), ("elsewhere", None)])
def test_a_failed_step_ends_its_own_process_only(module, code):
    step = f"""
import sys
from types import SimpleNamespace
sys.modules["__main__"].__spec__ = SimpleNamespace(name="{module}")
from components.runtime import running
from two_tower.errors import DataError
with running("prepare_data"):
    raise DataError("row 3 is bad; mend it")
"""
    result = python(step)
    assert "row 3 is bad; mend it" in result.stdout and "Traceback" not in result.stderr
    assert result.returncode == code if code else result.returncode < 0
