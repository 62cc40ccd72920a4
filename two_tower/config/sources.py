"""Where the rows of a table come from and how its files are written."""

from __future__ import annotations

import codecs
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.settings import Settings


class BigQuerySettings(Settings):
    """A BigQuery table or query, exported to Parquet files before it is read."""

    table: str | None = Field(None, description="PROJECT.DATASET.TABLE.")
    query: str | None = Field(None, description="A SELECT statement, instead of `table`.")
    export_to: str = Field(description="A gs:// folder for the exported files; equal content is exported once.")
    project: str | None = Field(None, description="The project that pays; that of the credentials if not given.")
    location: str | None = Field(None, description="The location of the data, such as EU.")

    @model_validator(mode="after")
    def _table_or_query(self) -> BigQuerySettings:
        if (self.table is None) == (self.query is None):
            raise PydanticCustomError("bigquery", "give either table or query")
        return self


def _delimiter(value: Any) -> Any:
    r"""YAML leaves a \t that is not in double quotes as two characters."""
    return "\t" if value == r"\t" else value


def _known_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise PydanticCustomError("encoding", "no text encoding {name}", {"name": repr(name)}) from error
    return name


class CsvSettings(Settings):
    """How delimited text is written (format csv)."""

    delimiter: Annotated[str, BeforeValidator(_delimiter)] = Field(
        "auto",
        min_length=1,
        max_length=8,
        description="What separates the fields, such as ';', '\\t' or '::'; `auto`: a tab in .tsv files, else a comma.",
    )
    quoting: Literal["double", "single", "none"] = Field(
        "double",
        description="The quotes around values that hold delimiters or line breaks; `none` where quotes are characters "
        "like others.",
    )
    escape: str | None = Field(
        None, min_length=1, max_length=1, description="What makes the character behind it ordinary, such as '\\'."
    )
    header: bool = Field(True, description="Whether the first line names the columns; if not, `names` does.")
    names: list[str] = Field([], description="The columns' names, for a file without a header or instead of it.")
    skip_lines: int = Field(0, ge=0, le=1_000_000, description="Lines before the header, such as a title.")
    comment: str | None = Field(None, min_length=1, max_length=8, description="What lines begin with that are no rows.")
    skip_initial_space: bool = Field(False, description="Whether blanks behind a delimiter belong to no value.")
    decimal: Literal[".", ","] = Field(
        ".", description="The decimal mark; with ',' 19,90 and 1.234,50 are read as numbers in every column."
    )
    encoding: Annotated[str, AfterValidator(_known_encoding)] = Field(
        "utf-8", description="The text's encoding, such as latin-1, cp1252 or utf-16."
    )
    types: dict[str, Literal["text", "integer", "number", "boolean"]] = Field(
        {},
        description="The types of columns, all of which are text if not given. A row with a value of another type is "
        "malformed.",
    )

    @property
    def quote(self) -> str | None:
        """The quoting character, if there is one."""
        return {"double": '"', "single": "'", "none": None}[self.quoting]

    @model_validator(mode="after")
    def _characters_differ(self) -> CsvSettings:
        if self.delimiter != "auto" and (set(self.delimiter) & {"\n", "\r", self.quote, self.escape}):
            raise PydanticCustomError("delimiter", "delimiter: a line break, the quote or the escape cannot separate")
        if self.escape is not None and (not self.escape.isascii() or self.escape in {"\n", "\r", "\0", self.quote}):
            why = "doubled quotes need no escape" if self.escape == self.quote else "an ASCII character is needed"
            raise PydanticCustomError("escape", "escape: {why}", {"why": why})
        if self.delimiter == self.decimal:
            raise PydanticCustomError("decimal", "decimal: {mark} is the delimiter", {"mark": repr(self.decimal)})
        return self

    @model_validator(mode="after")
    def _names_are_given(self) -> CsvSettings:
        if not self.header and not self.names:
            raise PydanticCustomError("no_names", "names: a file without a header needs the names of its columns")
        for name in self.names:
            if self.names.count(name) > 1:
                raise PydanticCustomError("name_twice", "names: {name} stands there twice", {"name": repr(name)})
        return self


class SourceSettings(Settings):
    """Files of one table."""

    path: str | list[str] | None = Field(
        None,
        description="A file, a glob or a folder, local or gs://; or a list of them. A relative path is looked up in "
        "data/NAME, then in $TWO_TOWER_DATA/NAME, NAME being the configuration's name (or `dataset`). Folders named "
        "KEY=VALUE below it are columns.",
    )
    bigquery: BigQuerySettings | None = Field(None, description="Where the rows come from, instead of `path`.")
    format: Literal["auto", "parquet", "csv", "jsonl"] = Field(
        "auto", description="`auto` goes by the file name's ending."
    )
    csv: CsvSettings = Field(CsvSettings(), description="How the files are written, where they are delimited text.")

    @model_validator(mode="after")
    def _path_or_bigquery(self) -> Self:
        if (self.path is None) == (self.bigquery is None):
            raise PydanticCustomError("source", "needs a path, or bigquery instead of it")
        return self
