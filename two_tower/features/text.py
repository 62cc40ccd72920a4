"""A text as the mean of the embeddings of its hashed words."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from two_tower.contracts import FeatureType, Int32, Statistics
from two_tower.features.base import CHUNK, cast_text, mean_embedding, raw_text

WORD = r"\pL\pM\pN"
"""The characters of words, in a set of a regular expression."""


class Text(FeatureType):
    """Lower-cased words (runs of letters, marks and digits), their n-grams and their characters', hashed into buckets.

    Hashing needs no vocabulary, so that new words have an embedding too: Weinberger et al., "Feature Hashing for
    Large Scale Multitask Learning", 2009.  Character n-grams give misspelt and inflected words an embedding near the
    word's: Bojanowski et al., "Enriching Word Vectors with Subword Information", 2017 (fastText).
    """

    type: Literal["text"] = "text"
    dim: int = Field(32, ge=1, le=65_536, description="Width of the embedding.")
    buckets: int = Field(
        10_000, ge=1, le=1_000_000_000, description="Number of embeddings that the words are hashed into."
    )
    ngrams: int = Field(
        1, ge=1, le=5, description="Up to this many neighbouring words are hashed together too: 2 adds the pairs."
    )
    character_ngrams: int | None = Field(
        None,
        ge=2,
        le=8,
        description="Runs of this many characters of each word are hashed too, with < and > as the word's ends: "
        "with 3, cat gives <ca, cat, at>.",
    )
    max_tokens: int = Field(
        32,
        ge=1,
        le=65_536,
        description="A text's tokens beyond this many are left out; words come first, then pairs, triples and so on, "
        "then the characters' n-grams.",
    )

    def cast(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Strings; the empty string is missing."""
        return cast_text(column, kind="text")

    def fit(self, column: pa.ChunkedArray) -> Statistics:
        """Nothing: the hash needs no vocabulary."""
        return {}

    def encode(self, column: pa.ChunkedArray, statistics: Statistics) -> Int32:
        """Hashed tokens `[rows, max_tokens]`, 1 and up, padded with 0.

        TensorFlow itself does it: its Unicode lower-casing, its regular expressions and its hash are the only ones
        that the exported towers can have.
        """
        import tensorflow as tf

        ids = np.zeros((len(column), self.max_tokens), dtype=np.int32)
        with tf.device("CPU"):
            for start in range(0, len(column), CHUNK):
                raw = tf.constant(self.raw(column.slice(start, CHUNK)), tf.string)
                ids[start : start + CHUNK] = self.encode_tensor(raw, statistics).numpy()
        return ids

    def cut_off(self, column: pa.ChunkedArray) -> dict[str, int]:
        """How many texts have more words and n-grams of words than `max_tokens`; the characters' come on top."""
        words = np.asarray(pc.fill_null(pc.count_substring_regex(column, pattern=f"[{WORD}]+"), 0))
        tokens = sum(np.maximum(words - more, 0) for more in range(self.ngrams))
        return {"max_tokens": int((tokens > self.max_tokens).sum())}

    def raw(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        """UTF-8 `[rows]`."""
        return raw_text(column)

    def raw_spec(self, statistics: Statistics) -> tuple[str, tuple[int | None, ...]]:
        """Strings `[batch]`."""
        return "string", (None,)

    def encode_tensor(self, raw: Any, statistics: Statistics) -> Any:
        """Hashed tokens `[batch, max_tokens]`."""
        import tensorflow as tf

        text = tf.strings.lower(raw, encoding="utf-8")
        words = tf.strings.split(tf.strings.regex_replace(text, f"[^{WORD}]+", " "))
        kinds = [words]
        kinds += [tf.strings.ngrams(words, size, separator=" ") for size in range(2, self.ngrams + 1)]
        if self.character_ngrams is not None:
            characters = tf.strings.unicode_split(tf.strings.join(["<", words.flat_values, ">"]), "UTF-8")
            pieces = tf.strings.ngrams(characters, self.character_ngrams, separator="")
            # the mark keeps the word `cat` and the piece `cat` of `scatter` apart
            marked = tf.ragged.map_flat_values(lambda piece: tf.strings.join(["#", piece]), pieces)
            kinds.append(words.with_values(marked).merge_dims(1, 2))
        tokens = tf.concat(kinds, axis=1)
        hashed = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, tokens, self.buckets)
        ids = tf.cast(hashed + 1, tf.int32).to_tensor(default_value=0, shape=[None, self.max_tokens])
        return tf.ensure_shape(ids, [None, self.max_tokens])

    def layer(self, statistics: Statistics, *, name: str) -> Any:
        """The mean of the tokens' embeddings."""
        return mean_embedding(self.buckets + 1, self.dim, name=name)
