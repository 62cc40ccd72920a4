"""The lines that a step writes of its own, and what its log tells of its end."""

from __future__ import annotations

import logging
import re
import sys

from two_tower.progress import log

LINE_MARK = "[two-tower] "
"""What the step's own log lines start with, so that they can be told from those of the libraries."""

_SAID = re.compile(
    rf"^{re.escape(LINE_MARK)}\S+ ERROR (?:\w+ failed: )?(.*?)(?=^{re.escape(LINE_MARK)}|\Z)", re.M | re.S
)
_RAISED = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", re.M)


def log_to_console() -> None:
    """Sends the project's log lines to standard output, marked as its own."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(f"{LINE_MARK}%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def cause_in(log: str) -> str:
    """What ended a step, by its log: its own word, else the exception that it did not catch, else nothing."""
    said = _SAID.search(log)
    raised = None if said else next(reversed([*_RAISED.finditer(log)]), None)
    found = said or raised
    return found[1].strip() if found else ""


def own_log(log: str) -> str:
    """A step's log from its own first line on, without what KFP's executor says before: its inputs as JSON."""
    start = log.find(LINE_MARK)
    return log[max(start, 0) :]
