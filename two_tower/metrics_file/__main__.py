"""Prints the JSON Schema of metrics.json: `python -m two_tower.metrics_file > docs/metrics.schema.json`."""

import json

from two_tower.metrics_file import Evaluation

print(json.dumps(Evaluation.model_json_schema(), indent=2))
