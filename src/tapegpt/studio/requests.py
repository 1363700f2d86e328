"""What requests hold, as structs that decode and check them, and describe them in OpenAPI.

Fields that are unknown are refused. What the library checks itself, with a message that says what to do, is not
checked here a second time. Not here: OpenAI's requests (`completions_schema.py`), responses.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from tapegpt.studio.limits import STRINGS

Whole = Annotated[int, Meta(ge=0, le=2**53)]  # what JavaScript has too
Text = Annotated[str, Meta(max_length=10_000)]
Name = Annotated[str, Meta(max_length=100)]

MAX_LIST = 10_000  # strings to score in a call
MAX_PATTERN = 500  # characters


class Request(Struct, forbid_unknown_fields=True, kw_only=True):
    """What all bodies of requests have in common."""


class NewCorpus(Request):
    """Data to train on: a text with a string a line, or the name of an embedded data set."""

    text: str | UnsetType = UNSET
    dataset: str | UnsetType = UNSET


class FileQuery(Request):
    """How a file of data is read: as the options of `tapegpt train` with these names say."""

    name: Name = "data.txt"
    format: Literal["text", "csv", "tsv", "jsonl", "json"] | None = None
    encoding: Name = "utf-8"
    delimiter: Name = "line"
    column: Name | None = None
    header: bool = True


class Choices(Request):
    """Fields of the model's shape and of its training; what is left out has tapegpt's defaults."""

    n_layer: int | UnsetType = UNSET
    n_embd: int | UnsetType = UNSET
    n_head: int | UnsetType = UNSET
    block_size: int | UnsetType = UNSET
    n_gram: int | UnsetType = UNSET
    gram_rows: int | UnsetType = UNSET
    engine: Literal["exact", "fast"] | UnsetType = UNSET
    steps: int | UnsetType = UNSET
    budget: float | UnsetType | None = UNSET
    learning_rate: float | UnsetType = UNSET
    seed: Whole | UnsetType = UNSET
    init_std: float | UnsetType = UNSET
    batch_size: int | UnsetType = UNSET
    beta1: float | UnsetType = UNSET
    beta2: float | UnsetType = UNSET
    weight_decay: float | UnsetType | None = UNSET
    gram_decay: float | UnsetType | None = UNSET
    warmup: float | UnsetType = UNSET
    clip: float | UnsetType = UNSET
    validation: float | UnsetType = UNSET
    patience: int | UnsetType | None = UNSET
    threads: int | UnsetType | None = UNSET
    long: Literal["cut", "window"] | UnsetType = UNSET


class NewRun(Request):
    """A training that is asked for, and what is to be shown of its model."""

    corpus: Name
    settings: Choices = field(default_factory=Choices)
    text: Text = ""
    temperature: float = 0.5
    moments: Annotated[int, Meta(ge=2, le=200)] = 40


class MomentQuery(Request):
    """What is to be shown of a moment."""

    text: Text = ""
    temperature: float = 0.5


class Generate(Request):
    """Strings that are asked for, and what they are to be like."""

    n: Annotated[int, Meta(ge=0, le=STRINGS)] = 20
    temperature: float = 0.5
    seed: Whole | None = None
    prefix: Text = ""
    suffix: Text = ""
    pattern: Annotated[str, Meta(max_length=MAX_PATTERN)] | None = None
    min_length: int = 0
    max_length: int | None = None
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    novel: bool | Annotated[int, Meta(ge=0, le=3)] = False
    unique: bool = False


class ToScore(Request):
    """Strings to judge."""

    strings: Annotated[list[Text], Meta(max_length=MAX_LIST)]


class ToExplain(Request):
    """A text to read, by the model as it was after so many steps, or as it is."""

    text: Text
    step: Whole | UnsetType = UNSET


class Why(Request):
    """A string whose origin is asked for."""

    text: Text
    top: Annotated[int, Meta(ge=1, le=100)] = 10


class CodeQuery(Request):
    """A stage of an operation on its way to machine code."""

    operation: Name = ""
    stage: Literal["python", "tape", "llvm", "asm"] = "python"
