"""Which names a single step is asked for by."""

import pytest
from rich.console import Console

from pipelines.local.single_step import run_step
from pipelines.runs import Run
from two_tower.config import load_config
from two_tower.errors import ConfigError
from two_tower.steps import STEPS


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leave_page", "leave_page is called report_failure now; it runs at the end of a whole run alone"),
        ("report_failure", "report_failure runs at the end of a whole run alone"),
        ("train", f"there is no step 'train'; the steps: {', '.join(STEPS)}"),
    ],
)
def test_a_name_that_is_no_steps_is_refused_in_one_line(tmp_path, name, said):
    upstream = Run.start(tmp_path, name="tiny", config_file="tiny.yaml", config={})
    with pytest.raises(ConfigError) as refused:
        run_step(name, load_config("configs/tiny.yaml"), upstream, config_file="tiny.yaml", console=Console())
    assert str(refused.value) == said
    assert len(list(tmp_path.iterdir())) == 1, "a step that is refused leaves no run"
