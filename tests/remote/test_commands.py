"""Which service a command speaks to."""

import pytest

from pipelines.remote.commands import kind_of
from two_tower.config import Environment
from two_tower.errors import ConfigError

VERTEX = {"project": "my-shop", "region": "europe-west4", "bucket": "gs://shop", "service_account": "a@b.example.com"}
KUBEFLOW = {"root": "gs://shop"}


def environment(**sections):
    return Environment.model_validate(sections)


def test_the_one_service_of_an_environment_need_not_be_named():
    assert kind_of(environment(vertex=VERTEX), None) == "vertex"
    assert kind_of(environment(kubeflow=KUBEFLOW), None) == "kubeflow"


@pytest.mark.parametrize("asked", ["vertex", "kubeflow"])
def test_of_two_services_the_one_that_is_named_is_taken(asked):
    assert kind_of(environment(vertex=VERTEX, kubeflow=KUBEFLOW), asked) == asked


@pytest.mark.parametrize(
    ("sections", "asked", "message"),
    [
        ({"vertex": VERTEX, "kubeflow": KUBEFLOW}, None, "has sections vertex and kubeflow; choose with --backend"),
        ({}, None, "needs a section vertex or kubeflow, which says where runs go"),
        ({"vertex": VERTEX}, "kubeflow", "--backend kubeflow: the environment file has no section kubeflow"),
        ({"vertex": VERTEX}, "airflow", "--backend airflow: the environment file has no section airflow"),
    ],
)
def test_a_service_that_is_not_there_or_not_clear_is_refused(sections, asked, message):
    with pytest.raises(ConfigError, match=message):
        kind_of(environment(**sections), asked)


def test_the_old_name_gives_one_line_that_names_the_new():
    with pytest.raises(ConfigError) as error:
        kind_of(environment(kubeflow=KUBEFLOW), "kfp")
    assert str(error.value) == "--backend kfp is called --backend kubeflow, as the environment file's section is"
