"""What responses hold, as structs that describe them in OpenAPI; losses and surprises are in nats per token.

Source of OpenAI's responses: its API reference, "Completions" and "Models". Not here: how responses come about.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Response(Struct, kw_only=True):
    """What all responses have in common."""


class ErrorDetail(Response):
    """What is wrong, and of which kind it is."""

    message: str
    type: Literal["invalid_request", "too_large", "busy", "not_found", "forbidden", "failed"]


class Error(Response):
    """An error: one line that says what is wrong and what to do."""

    error: ErrorDetail


class Column(Response):
    """A column of labels, and its values."""

    name: str
    values: list[str]


class Corpus(Response):
    """Data to train on; `lengths` are pairs of a length and how many documents have it, the shortest first."""

    id: str
    name: str
    dataset: str | None
    documents: int
    distinct: int
    characters: int
    tokens: str
    vocabulary: list[str]
    labels: list[Column]
    longest: int
    median: int
    lengths: list[tuple[int, int]]
    sample: list[str]
    baselines: dict[str, float] | None


class Option(Response):
    """A way to read a file, such as an encoding or a column, and what is read then."""

    name: str
    sample: str


class Finding(Response):
    """What `tapegpt doctor` says of data: the reason, and the length of strings that it advises to keep, if it does."""

    reason: str
    max_length: int | None


class Reading(Response):
    """How a file was read, and its corpus; none, with the problem, where a column has to be chosen first.

    `formats` and `delimiters` are other ways to read a text that looks as if it were a table, or strings in one line.
    """

    corpus: Corpus | None
    problem: str | None
    format: str
    encoding: str
    encodings: list[Option]
    columns: list[Option]
    formats: list[Option]
    delimiters: list[Option]
    findings: list[Finding]
    text: str | None


class Seconds(Response):
    """How long a training took, and all that was done for its request."""

    train: float
    compile: float
    all: float


class Curve(Response):
    """Losses as means of stretches of steps, each up to and including one."""

    steps: list[int]
    mean: list[float]


class Evaluation(Response):
    """The loss on documents that are held out."""

    step: int
    loss: float


class String(Response):
    """A generated string with its labels, whether it is one of the data, and its nats per token."""

    text: str
    labels: list[str]
    known: bool
    nats: float


class Character(Response):
    """A character's embedding in two dimensions, and its share of the data."""

    character: str
    x: float
    y: float
    share: float


class Gradient(Response):
    """A stage on the gradient's way back: its norm at each position."""

    name: str
    norms: list[float]


class Explanation(Response):
    """How a model reads a text of T positions, behind its labels, each column=value."""

    text: str
    labels: list[str]
    inputs: list[str]
    targets: list[str]
    surprises: list[float]
    loss: float
    next: list[list[tuple[str, float]]]
    target_p: list[float]
    attention: list[list[list[list[float]]]]
    gradients: list[Gradient]


class Shape(Response):
    """The name and shape of a matrix of parameters."""

    name: str
    rows: int
    columns: int


class Thumbnail(Shape):
    """Some rows and columns of a matrix of parameters, as shares of the largest of these numbers."""

    cells: list[list[float]]


class Matrix(Shape):
    """A matrix of parameters, row by row."""

    values: list[float]


class Operation(Response):
    """An operation of the forward pass or the loss: its parameters, and whose results it takes, counted from 0."""

    name: str
    operation: str
    formula: str
    parameters: list[str]
    inputs: list[int]


class Moment(Response):
    """A model after so many steps."""

    step: int
    loss: float | None
    strings: list[String]
    embeddings: list[Character]
    explanation: Explanation
    matrices: list[Thumbnail]


class Run(Response):
    """A training and its model."""

    id: str
    corpus: str | None
    name: str
    model: str
    settings: dict[str, int | float | str | None]
    parameters: int
    vocabulary: list[str]
    graph: list[Operation]
    labels: list[Column]
    seconds: Seconds
    steps: int
    losses: Curve
    held_out: list[Evaluation]
    baselines: dict[str, float] | None
    moments: list[int]
    moment: Moment


class Summary(Response):
    """A run in the list of runs."""

    id: str
    name: str
    parameters: int
    steps: int


class Progress(Response):
    """How far a training has come; `compiling` while the code of a new shape is being made."""

    step: int
    steps: int
    parameters: int
    losses: Curve
    strings: list[str]
    compiling: bool


class Strings(Response):
    """Generated strings; `notes` say what else is to be known of them."""

    strings: list[String]
    notes: list[str]
    seconds: float


class Score(Response):
    """How surprising a string is: to each token, and last to the end, its nats; and the most probable of its labels."""

    text: str
    tokens: list[str]
    nats: float
    bits: float
    perplexity: float
    percentile: Annotated[float, Meta(ge=0, le=100)] | None
    surprises: list[float]
    unknown: list[str]
    classes: list[tuple[str, float]]


class Scores(Response):
    """The scores of strings, in their order."""

    scores: list[Score]


class Judgement(Response):
    """Some strings that are held out, and the nats per token of each."""

    documents: list[str]
    nats: list[float]


class Influence(Response):
    """A training document, how much it taught a string, and the steps it was trained on."""

    document: str
    influence: float
    steps: list[int]


class Origins(Response):
    """The documents that taught a string most, and those that pushed against it."""

    taught: list[Influence]
    hindered: list[Influence]
    seconds: float


class Code(Response):
    """The text of a stage, a line about time and arithmetic, and the operations that there are."""

    operation: str
    stage: str
    text: str
    operations: list[str]
    about: str


class Setting(Response):
    """A setting that the page offers: its annotation in Python, its default, and values, none where any is offered.

    Some stand first; `about` is a line of help.
    """

    name: str
    label: str
    about: str
    first: bool
    kind: str
    default: int | float | str
    values: list[int | float | str]


# --- OpenAI's --------------------------------------------------------------------------------------------------


class LogProbs(Response):
    """The model's own log-probabilities, at temperature 1, token by token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Choice(Response):
    """A completion; in a stream a piece of one, whose reason to end comes with its last."""

    text: str
    index: int
    logprobs: LogProbs | None
    finish_reason: Literal["stop", "length"] | None


class Usage(Response):
    """Characters."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(Response):
    """Completions, or in a stream pieces of them."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class Model(Response):
    """A run, as OpenAI lists models."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(Response):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


class ApiErrorDetail(Response):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ApiError(Response):
    """An error in OpenAI's form."""

    error: ApiErrorDetail
