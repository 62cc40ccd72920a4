"""Processes that die with the one that starts them: run as a script, this file ties itself and becomes a command.

A `preexec_fn` could tie them as well, but it makes `subprocess` run Python's hooks around the fork, and a Ctrl-C that
arrives in the middle of one is printed and forgotten.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Linux's number for "send this process a signal when its parent dies"."""
INTERRUPTIBLE = "interruptible"
RUNNER_PID = "TWO_TOWER_RUNNER_PID"
"""Set by the local runner: the step dies with that process."""


def dying_with_this_process(command: list[str], *, interruptible: bool = False) -> list[str]:
    """The command line that runs `command` for as long as this process lives, in the same process id.

    Args:
        command: A program and its arguments.
        interruptible: Whether it heeds SIGINT even where this process does not, such as in a shell's background.
    """
    signals = INTERRUPTIBLE if interruptible else ""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), signals, *command]


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def die_with_runner() -> None:
    """Has the kernel kill this process when its parent dies, and ends it now if the runner is gone already.

    The parent is the shell that the local runner started with the same tie to itself, so a killed runner takes
    the whole chain along and no orphan goes on writing.
    """
    runner = os.environ.get(RUNNER_PID)
    if not runner:
        return
    die_with_parent()
    try:
        os.kill(int(runner), 0)
    except ProcessLookupError:
        sys.exit(f"the runner (process {runner}) is gone")


if __name__ == "__main__":
    _, parent, signals, *command = sys.argv
    die_with_parent()
    if os.getppid() != int(parent):
        sys.exit(f"process {parent}, which started this one, is gone")
    if signals == INTERRUPTIBLE:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    os.execvp(command[0], command)
