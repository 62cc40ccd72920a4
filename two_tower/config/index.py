"""The sections `embedding` and `index`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.settings import MANY, Settings


class EmbeddingSettings(Settings):
    """Batch embedding of the candidates."""

    batch_size: int = Field(16384, ge=1, le=1 << 24, description="Candidates of one call of the tower.")
    previous: str | None = Field(
        None,
        description="The folder of an earlier `candidate_embeddings` artefact. Candidates whose raw features and id "
        "have not changed since take their vectors from it, if the same tower made them; else all are embedded.",
    )


class IndexTargetSettings(Settings):
    """What the index has to give; kind and parameters are chosen from it, on validation queries."""

    recall: float = Field(
        0.98, gt=0, le=1, description="Least share of the first `k` of an exact search that the index finds."
    )
    k: int = Field(100, ge=1, le=1_000_000)
    """How many results the share is about."""
    p99_ms: float | None = Field(
        None, gt=0, le=1e9, description="Most milliseconds that a single query takes on one thread, 99 times of 100."
    )
    memory_gb: float | None = Field(None, gt=0, le=1e9, description="Most memory for codes and vectors, in 10^9 bytes.")


class VectorSearchSettings(Settings):
    """What the input of Vertex AI Vector Search says beside the vectors."""

    restricts: list[str] | None = Field(
        None,
        description="The attributes that a query can ask for by token; if not given, all that are not numbers. A whole "
        "number that is a code can be named here.",
    )
    numeric_restricts: list[str] | None = Field(
        None,
        description="The attributes that a query can compare by value; if not given, all numbers but those in "
        "`restricts`.",
    )
    crowding: str | None = Field(
        None, description="The attribute of which a query can limit how many results share a value."
    )
    approximate_neighbors_count: int = Field(
        1000, ge=1, le=MANY, description="Tree-AH: how many are found before they are scored again exactly."
    )
    leaf_node_embedding_count: int = Field(1000, ge=1, le=MANY, description="Tree-AH: vectors on a leaf.")
    leaf_nodes_to_search_percent: int = Field(10, ge=1, le=100, description="Tree-AH: leaves that a search visits.")
    index_update_method: Literal["BATCH_UPDATE", "STREAM_UPDATE"] = Field(
        "BATCH_UPDATE", description="Whether the index takes changes in batches, or also point by point."
    )

    @model_validator(mode="after")
    def _restricts_by_an_attribute_once(self) -> VectorSearchSettings:
        names = [*(self.restricts or []), *(self.numeric_restricts or [])]
        for name in names:
            if names.count(name) > 1:
                raise PydanticCustomError(
                    "restrict_twice", "restricts and numeric_restricts: {name} stands there twice", {"name": repr(name)}
                )
        return self


class IndexSettings(Settings):
    """The index of the candidates."""

    kind: Literal["auto", "exact", "scann"] = Field(
        "auto", description="`auto`: exact below 20,000 items, ScaNN above (with a tree from 100,000)."
    )
    target: IndexTargetSettings | None = Field(
        default_factory=IndexTargetSettings,
        description="What `reorder`, `leaves_to_search` and `storage` are chosen for; null: as given.",
    )
    storage: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="What ScaNN keeps of each vector to rank the quantised best; `auto`: float32, or less where "
        "`target.memory_gb` asks for it.",
    )
    reorder: int = Field(
        1000, ge=1, le=MANY, description="Without a target: how many of the quantised best are ranked by their vectors."
    )
    leaves_to_search: float = Field(
        0.1, gt=0, le=1, description="Without a target: share of the tree's leaves that a search visits."
    )
    soar: bool = Field(
        False, description="Whether each candidate stands in two leaves of the tree: a longer build, more codes."
    )
    shards: int = Field(
        1,
        ge=1,
        le=10_000,
        description="Parts that are searched in parallel and merged, each of which can be loaded alone.",
    )
    vector_search: VectorSearchSettings = Field(
        default_factory=VectorSearchSettings,
        description="The input of Vertex AI Vector Search, which is written beside the index.",
    )
