"""Programs that change a registry, to be run several at a time."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

PROMOTER = """
import sys, itertools
from pathlib import Path
from registry_parts import make_parts
from two_tower.errors import RegistryError
from two_tower.registry import Registry

root, work, name, rounds = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
registry = Registry(root, "shop")
print("ready", flush=True)
sys.stdin.readline()
won = 0
for number in itertools.count() if rounds < 0 else range(rounds):
    champion = registry.champion()
    parts = make_parts(work / name, f"{name}-{number}", champion=champion.id if champion else None)
    try:
        registry.promote(parts)
        won += 1
        if number % 3 == 2:
            registry.rollback()
    except RegistryError as error:
        assert "run again to compare" in str(error) or "no champion before" in str(error), error
print(won)
"""


CHANGER = """
import itertools, random, shutil, sys, time
from pathlib import Path
from registry_parts import assert_whole, make_parts
from two_tower.errors import RegistryError
from two_tower.registry import Registry

root, work, name, seconds = sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
EXPECTED = ("run again to compare", "no champion before", "no version", "is the champion; roll back")
registry = Registry(root, "shop")
chance = random.Random(name)
print("ready", flush=True)
sys.stdin.readline()
promoted = 0
end = time.monotonic() + seconds
for number in itertools.count():
    if time.monotonic() > end:
        break
    (change,) = chance.choices(("promote", "refuse", "by hand", "roll back", "prune", "look"), (4, 2, 1, 3, 3, 3))
    champion = registry.champion()
    made = {"champion": champion.id if champion else None}
    try:
        if change == "promote":
            registry.promote(make_parts(work / name, f"{name}-{number}", **made))
            promoted += 1
        elif change == "refuse":
            registry.add_refused(make_parts(work / name, f"{name}-{number}", decision="refuse", **made))
        elif change == "by hand" and registry.versions():
            registry.promote_existing(chance.choice(registry.versions()).id)
        elif change == "roll back":
            registry.rollback()
        elif change == "prune":
            registry.prune(keep=chance.choice((1, 3, 8)), days=chance.choice((None, 0)))
        elif change == "look":
            for version in registry.versions():
                assert_whole(version)
    except RegistryError as error:
        assert any(expected in str(error) for expected in EXPECTED), error
print(promoted)
"""


RACER = """
import sys
from pathlib import Path
from registry_parts import make_parts
from two_tower.errors import RegistryError
from two_tower.registry import Registry

root, work, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
registry = Registry(root, "shop")
registry.champion()
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    parts = make_parts(work / name, f"{name}-{number}", champion=line.strip() or None)
    print("prepared", flush=True)
    sys.stdin.readline()
    try:
        print(registry.promote(parts), flush=True)
    except RegistryError as error:
        print(error, flush=True)
"""
"""Promotes one version for each line with the champion that it was compared with, once another line has come."""


def start_promoter(root: str | Path, work: Path, name: str, rounds: int) -> "subprocess.Popen[str]":
    return start(PROMOTER, root, work, name, rounds)


def start(program: str, root: str | Path, work: Path, name: str, amount: float) -> "subprocess.Popen[str]":
    """A process of the program that waits for `go`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(root), str(work), name, str(amount)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
