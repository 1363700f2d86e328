"""What requests hold, as structs that decode and check them, and describe them in OpenAPI.

Fields that are unknown are refused. What the library checks itself, with a message that says what to do, is not
checked here a second time. Source of OpenAI's requests: its API reference, "Completions". Not here: responses.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from tapegpt.data.vocabulary import CHARACTERS
from tapegpt.inference.constraints import Drawing
from tapegpt.studio.controls import schema
from tapegpt.studio.limits import STRINGS

Whole = Annotated[int, Meta(ge=0, le=2**53)]  # what JavaScript has too
Value = Annotated[int, Meta(ge=-(2**53), le=2**53)] | float | str | None
Chosen = Annotated[dict[str, Value], Meta(extra_json_schema=schema())]
Text = Annotated[str, Meta(max_length=10_000)]
Label = Annotated[list[Text], Meta(max_length=100)]  # of a string: a value or column=value each
Name = Annotated[str, Meta(max_length=100)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]

MAX_LIST = 10_000  # strings to score in a call
MAX_PATTERN = 500  # characters


class Request(Struct, forbid_unknown_fields=True, kw_only=True):
    """What all bodies of requests have in common."""


class NewCorpus(Request):
    """Data to train on: text with one string per line, an embedded data set or a corpus, and which of its strings."""

    text: str | UnsetType = UNSET
    dataset: str | UnsetType = UNSET
    corpus: str | UnsetType = UNSET
    tokens: str = CHARACTERS
    unique: bool = False
    max_length: int | None = None


class FileQuery(Request):
    """How a file of data is read: as the options of `tapegpt train` with these names say."""

    name: Name = "data.txt"
    format: Literal["text", "csv", "tsv", "jsonl", "json"] | None = None
    encoding: Name = "utf-8"
    delimiter: Name = "line"
    column: Name | None = None
    labels: list[Name] = []  # msgspec copies it
    header: bool = True


class NewRun(Request):
    """A training, and what is to be shown of its model."""

    corpus: Name
    settings: Chosen = {}  # msgspec copies it
    text: Text = ""
    label: Label = []
    temperature: float = Drawing.temperature
    moments: Annotated[int, Meta(ge=2, le=200)] = 40


class MomentQuery(Request):
    """What is to be shown of a moment."""

    text: Text = ""
    label: Label = []
    temperature: float = Drawing.temperature


class Generate(Request):
    """How many strings to generate, and their constraints."""

    n: Annotated[int, Meta(ge=0, le=STRINGS)] = 20
    temperature: float = Drawing.temperature
    seed: Whole | None = None
    prefix: Text = ""
    suffix: Text = ""
    pattern: Annotated[str, Meta(max_length=MAX_PATTERN)] | None = None
    label: Label = []
    min_length: int = 0
    max_length: int | None = None
    top_k: int = Drawing.top_k
    top_p: float = Drawing.top_p
    min_p: float = Drawing.min_p
    novel: bool | Annotated[int, Meta(ge=0, le=3)] = False
    distinct: bool = False


class ToScore(Request):
    """Strings to judge."""

    strings: Annotated[list[Text], Meta(max_length=MAX_LIST)]
    label: Label = []


class ToExplain(Request):
    """A text to read, by the model as it was after so many steps, or as it is."""

    text: Text
    label: Label = []
    step: Whole | UnsetType = UNSET


class Why(Request):
    """A string, to find what taught it."""

    text: Text
    label: Label = []
    top: Annotated[int, Meta(ge=1, le=100)] = 10


class CodeQuery(Request):
    """A stage of an operation on its way to machine code."""

    operation: Name = ""
    stage: Literal["python", "tape", "llvm", "asm", "wasm"] = "python"


# --- OpenAI's --------------------------------------------------------------------------------------------------


class StreamOptions(Request):
    """What a stream holds besides completions."""

    include_usage: bool = False
    include_obfuscation: bool = False


class CompletionRequest(Request):
    """OpenAI's request; what the studio cannot do must be left out or have its default."""

    model: Annotated[str, Meta(max_length=100)]
    prompt: Text | Annotated[list[Text | int | list[int]], Meta(min_length=1, max_length=100)] | None = None
    suffix: Text | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=10_000)] | None = 16
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = 1.0
    n: Annotated[int, Meta(ge=1, le=128)] | None = 1
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = False
    stop: Text | Annotated[list[Text], Meta(max_length=4)] | None = None
    seed: Whole | None = None
    best_of: int | None = None
    presence_penalty: Penalty | None = 0.0
    frequency_penalty: Penalty | None = 0.0
    logit_bias: dict[str, float] | None = None
    user: str | None = None
