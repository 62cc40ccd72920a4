"""Processes that die with the one that starts them: none outlives it, and no Ctrl-C is lost while one is started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.child_process import dying_with_this_process

# Both start a process where a Ctrl-C that arrives within a hook around a fork would be printed and forgotten.
STEP = "from pipelines.local.runner import run_logged; run_logged(['true'], environment={}, log=log, line=print)"
SCHEDULED = "from pipelines.local.schedule_machine import run_in_child; run_in_child(['true'], log)"


@pytest.mark.parametrize("start", [STEP, SCHEDULED], ids=["step", "scheduled"])
def test_no_hook_of_python_runs_around_the_start_of_a_process(tmp_path, start):
    hooks = "import os, pathlib, sys; log = pathlib.Path(sys.argv[1]); os.register_at_fork(before=lambda: os._exit(7));"
    assert python(hooks + start, tmp_path / "log").returncode == 0


def test_a_process_dies_with_the_one_that_started_it():
    starts = "import subprocess, time; from components.child_process import dying_with_this_process; "
    starts += "print(subprocess.Popen(dying_with_this_process(['sleep', '60'])).pid, flush=True); time.sleep(60)"
    starter = subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True)
    child = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.05)


def test_a_command_whose_starter_is_gone_already_is_not_run(tmp_path):
    command = dying_with_this_process(["touch", str(tmp_path / "ran")])
    command[command.index(str(os.getpid()))] = "1"
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "process 1, which started this one, is gone" in result.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("interruptible", "code"), [(False, 0), (True, -signal.SIGINT)])
def test_an_ignored_interrupt_is_heeded_by_who_is_told_to(interruptible, code):
    starts = "import signal, subprocess; from components.child_process import dying_with_this_process; "
    starts += "signal.signal(signal.SIGINT, signal.SIG_IGN); "
    starts += (
        f"print(subprocess.call(dying_with_this_process(['sh', '-c', 'kill -INT $$'], interruptible={interruptible})))"
    )
    assert python(starts).stdout == f"{int(code)}\n"


def python(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
