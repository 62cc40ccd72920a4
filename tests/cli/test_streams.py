"""Output that nobody reads, that cannot be written, that is closed, or whose encoding lacks characters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.runs import list_runs

ROOT = Path(__file__).parents[2]
CONFIG = """
name: shop
data:
  interactions: {path: orders.csv, columns: {user: customer, item: sku, time: ordered_at}}
  split: {type: global_time, test: 5d, validation: 5d}
training: {loss: {type: full_softmax}}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.yaml").write_text(CONFIG)
    lines = [f"c{n % 7},Ж{n % 11},2024-01-{1 + n // 10:02} 10:{n % 60:02}:00" for n in range(300)]
    (folder / "data" / "shop").mkdir(parents=True)
    (folder / "data" / "shop" / "orders.csv").write_text("\n".join(["customer,sku,ordered_at", *lines]))
    return folder


def shell(command, folder, **variables):
    """Runs a line of bash in which `$TT` is the command; each of a pipe's exit codes is printed last, on stderr."""
    line = f"TT='{sys.executable} -m pipelines'; {command}; echo \"codes ${{PIPESTATUS[@]}}\" >&2"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    result = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, timeout=120)
    said, _, codes = result.stderr.decode().rpartition("codes ")
    return result.stdout.decode(errors="replace"), said, [int(code) for code in codes.split()]


def python(code, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"import os, sys\nfrom pipelines.cli.streams import lasting_streams\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, **options)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("data check shop.yaml", 0),
        ("data check shop.yaml --set data.interactions.max_bad_share=0 --set data.interactions.columns.time=sku", 1),
        ("config show shop.yaml", 0),
        ("config schema", 0),
        ("runs list", 0),
        ("run nowhere.yaml", 2),
        ("--help", 0),
    ],
)
def test_a_reader_that_goes_away_ends_nothing(shop, command, code):
    """`true` is gone before the first line comes."""
    expected = shell(f"$TT {command}", shop)[1]
    _, said, codes = shell(f"$TT {command} | true", shop)
    assert (said, codes[0]) == (expected, code)
    assert not shell(f"$TT {command} 2>&1 | true", shop)[1]


def test_a_run_whose_reader_goes_away_is_run_to_its_end(tmp_path):
    command = f"{sys.executable} {ROOT / 'tests' / 'local' / 'toy.py'} {tmp_path} | true"
    assert shell(command, ROOT)[1:] == ("", [0, 0])
    (run,) = list_runs(tmp_path)
    assert run.state == "finished"
    assert {step.name for step in run.steps if step.state == "ran"} == {
        "prepare_data",
        "train_towers",
        "report_failure",
    }


def test_whatever_writes_goes_on_without_its_reader():
    """Print, logging, a thread, a child, a library's print at exit; the code is the program's own."""
    reader, writer = os.pipe()
    os.close(reader)
    code = """
import atexit, logging, subprocess, threading
with lasting_streams():
    atexit.register(print, "goodbye")
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)
    for number in range(3):
        print("x" * 100_000)
        logging.warning("%s", "y" * 100_000)
    thread = threading.Thread(target=print, args=("z" * 100_000,), kwargs={"flush": True})
    thread.start()
    thread.join()
    child = subprocess.run(["sh", "-c", "echo one && echo two"], check=True)
    print("the end", file=sys.stderr)
sys.exit(7)
"""
    command = [sys.executable, "-c", f"import sys\nfrom pipelines.cli.streams import lasting_streams\n{code}"]
    result = subprocess.run(
        command,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(writer)
    assert (result.stderr, result.returncode) == ("the end\n", 7)


@pytest.mark.parametrize(("command", "code"), [("config show shop.yaml", 1), ("config show nowhere.yaml", 2)])
def test_output_that_cannot_be_written_is_no_success(shop, command, code):
    _, said, codes = shell(f"$TT {command} >/dev/full", shop)
    assert codes == [code]
    assert said.splitlines() == (
        ["error: standard output is not whole: No space left on device"] if code == 1 else said.splitlines()[:1]
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(shop, closed):
    assert shell(f"$TT config show shop.yaml {closed}", shop)[2] == [0]


def test_no_other_file_gets_the_output_of_a_closed_stream(shop):
    code = """
with lasting_streams():
    file = open('mine', 'w')
    print('not into the file', flush=True)
    os.system('echo nor this')
"""
    assert python(code, cwd=shop, preexec_fn=lambda: os.close(1)).returncode == 0
    assert (shop / "mine").read_text() == ""


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_an_encoding_that_lacks_characters_gets_others_in_their_place(shop, variables):
    out, said, codes = shell("$TT data check shop.yaml", shop, **variables)
    assert codes == [0] and "Error" not in said
    assert "events each day" in out and "fine: 300 of 300" in out
    if "PYTHONIOENCODING" in variables:
        assert "??????????" in out and "?0 9%" in out


def test_a_pipe_that_does_not_block_is_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = "with lasting_streams(): print('x' * 500_000)"
    command = [sys.executable, "-c", f"from pipelines.cli.streams import lasting_streams\n{code}"]
    with subprocess.Popen(command, stdout=writer, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        os.close(writer)
        with open(reader, "rb") as output:
            assert len(output.read()) == 500_001
    assert process.returncode == 0


def test_streams_in_memory_are_left_alone():
    code = """
import io
sys.stdout = mine = io.StringIO()
with lasting_streams():
    print("here")
sys.stderr.write(mine.getvalue())
"""
    assert python(code).stderr == "here\n"
