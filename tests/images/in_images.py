"""`two-tower`, but every step is run by the Python of its image: `python in_images.py PYTHONS.json run CONFIG`."""

import json
import sys
from pathlib import Path

from kfp.local import subprocess_task_handler

from components.build import IMAGE_OF
from pipelines.cli import main

PYTHONS = json.loads(Path(sys.argv.pop(1)).read_text(encoding="utf-8"))
replace = subprocess_task_handler.replace_python_executable


def with_the_images_python(full_command: list[str], new_executable: str) -> list[str]:
    """The command that a container would run, with the Python of the step's image."""
    step = full_command[full_command.index("--function_to_execute") + 1]
    return replace(full_command, PYTHONS[IMAGE_OF[step]])


subprocess_task_handler.replace_python_executable = with_the_images_python
main()
