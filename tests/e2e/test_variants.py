"""Other shapes of data and model through the whole DAG: each ends with a promoted version that answers."""

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VARIANTS = {
    "without_users": [
        "training.loss={type: in_batch}",
        "data.interactions.columns.user=null",
        "data.users=null",
        "data.query={history_length: 0, context: {event: {type: categorical}}}",
        "evaluation.baselines=[{type: popularity}]",
        "evaluation.exclude_seen=false",
    ],
    "matrix_factorisation": [
        "data.split={type: leave_last_out}",
        "data.items.features={}",
        "data.users.features={}",
        "data.query.history_length=0",
        "model.candidate={use_id: true, id_dropout: 0}",
        "model.query={use_id: true, id_dropout: 0}",
        "training.loss={type: sampled_softmax, negatives: 500}",
        "index.kind=scann",
    ],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_dag_runs_with_another_shape(project, name):
    sets = [*VARIANTS[name], "training.epochs=1", "evaluation.gate=[]"]
    project.command("run", "configs/tiny.yaml", "--workdir", name, *[word for text in sets for word in ("--set", text)])
    assert project.states(name)["promote"] == "ran"
    query = ("--context", "event=purchase") if name == "without_users" else ("--user", "u1")
    shown = project.command("recommend", "configs/tiny.yaml", *query, "--k", "3", "--workdir", name).stdout
    assert shown.count("│ 3 │") == 1
