"""Ending a process without the teardown of the interpreter, which native threads may not survive."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn


def end_with(main: Callable[[], object]) -> NoReturn:
    """Calls `main` and ends the process with the exit code that Python would give it."""
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = _code_of(ended)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    end_process(code)


def end_process(code: int) -> NoReturn:
    """Ends the process as Python does, less the teardown of the interpreter.

    A thread of a native library (Arrow reads ahead in a file that has long been refused, Beam's and TensorFlow's wait
    for work) that asks for the interpreter while it is torn down is ended amidst C++ that may not be left so:
    "terminate called", exit code 134 in place of the code that was meant.  All else is done in Python's own order:
    threads that are no daemons are waited for, then what was registered with `atexit` is called (temporary folders,
    fetched versions, logging, coverage), then both streams are written out.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or nobody reads any more
            stream.flush()
    os._exit(code)


def _code_of(ended: SystemExit) -> int:
    """The exit code of a `SystemExit`; a text is printed, as Python does."""
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    print(ended.code, file=sys.stderr)
    return 1
