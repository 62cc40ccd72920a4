"""YAML with its scalars as they are written: what `NO` or `1e6` means, only the key or the column can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Scalar:
    """What YAML takes for no text, with the text that it is written as."""

    value: Any
    text: str


class Loader(yaml.SafeLoader):
    """As PyYAML's safe loader, but with a `Scalar` for every truth value, number and time, and with texts for keys.

    The keys `yes` and `0` name kinds of events, not true and a number.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = self.DEFAULT_SCALAR_TAG
        return super().construct_mapping(node, deep)


def _scalar(loader: Loader, node: yaml.ScalarNode) -> Scalar:
    try:
        return Scalar(yaml.SafeLoader.yaml_constructors[node.tag](loader, node), node.value)
    except ValueError:  # such as 2024-02-31
        return Scalar(node.value, node.value)


for _tag in ("bool", "int", "float", "timestamp"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _scalar)
