"""Commands that die with the process that starts them: run as a script, this file ties itself and becomes the command.

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


def tied(command: list[str], *, interruptible: bool = False) -> list[str]:
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


if __name__ == "__main__":
    _, parent, signals, *command = sys.argv
    die_with_parent()
    if os.getppid() != int(parent):
        sys.exit(f"process {parent}, which started this one, is gone")
    if signals == INTERRUPTIBLE:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    os.execvp(command[0], command)
