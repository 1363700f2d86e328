"""What an engine is: the arithmetic behind a model.

An engine owns the parameters, Adam's moments and nothing else: no text, no files, no random state.
Three exist: `exact.py` (f64, compiled) and `reference.py` (scalar Python, the oracle), whose numbers are equal, and
`fast/` (f32, batches, compiled).
"""

from __future__ import annotations

from _thread import LockType, allocate_lock
from abc import ABC, abstractmethod
from array import array

from tapegpt.errors import TapeGPTError
from tapegpt.processes import Local, renew_at_fork
from tapegpt.ranges import Whole
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from tapegpt.autograd.model import Model
    from tapegpt.data.rng import Random
    from tapegpt.data.tokens import Strings, Tokens

    T = TypeVar("T")

# By name, row-major: "d", of the engine fast "f"; shapes from Model.shapes.
Parameters = dict[str, "array[float]"]
Snapshot = Parameters | bytes  # an engine's own copy of its parameters
STEPS = Whole(0, 1 << 45)  # taken, or to take: their sum times the largest batch, 2 ** 16, is below 2 ** 63


class Adam(Record):
    """Adam with linear decay of the learning rate to zero over `steps` (Kingma and Ba, 2015).

    The last four are the fast engine's alone: the others do what microgpt.py does.
    """

    steps: int = 1000
    learning_rate: float = 0.01
    beta1: float = 0.85
    beta2: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.0  # share of each parameter that a step of learning rate 1 takes away
    gram_decay: float = 0.0  # the same for the n-gram embeddings
    warmup: float = 0.0  # share of the steps in which the learning rate rises
    clip: float = 0.0  # largest norm of the gradient, 0 for any


class Moments(Record):
    """What Adam remembers: running means of each parameter's gradient and of its square, by name like parameters."""

    mean: Parameters
    square: Parameters
    powers: tuple[float, ...] = ()  # of beta1 and beta2, where the engine multiplies them step by step


class Engine(Local, ABC):
    """Trains and samples one model. Parameters are ordered and shaped by `Model.shapes`.

    Any number of threads may use one engine at once: calls take turns, so that each finds the parameters, moments and
    `steps` of a whole number of steps. A call that Ctrl-C ends has done all of its work or nothing: `steps` tells.
    What a call is given, such as the arrays of `Tokens`, must not change before it returns. A forked child has an
    engine of its own; if another thread was changing its parameters then, it must get others before anything else.
    """

    name: str  # "exact", "reference": what --engine takes
    config: Model
    vocab_size: int
    notice: str  # one line on what this machine lacks, or ""
    compile_seconds = 0.0  # spent on compiling; 0 if the code was in the cache

    def __init__(self) -> None:
        self._lock = renew_at_fork(allocate_lock())  # machine code runs without the interpreter's
        self._taken = array("q", [0])  # where machine code notes each step
        self._revision = 0
        self._is_changing = self._is_torn = False
        renew_at_fork(self)

    def _at_fork_reinit(self) -> None:
        self._is_torn = self._is_torn or self._is_changing

    @property
    def _turn(self) -> LockType:
        """The lock; raises `TapeGPTError` in a child that was forked while another thread changed the parameters."""
        if self._is_torn:
            raise TapeGPTError(
                "this process was forked while another thread trained the model: load its parameters, or its file"
            )
        return self._lock

    def _change(self, lock: LockType, change: Callable[..., T], *given: object) -> T:
        """Call what changes the numbers, when no other call does."""
        with lock:
            try:
                self._is_changing = True
                return change(*given)
            finally:
                self._revision += 1
                self._is_changing = False

    @property
    def revision(self) -> int:
        """A number that changes whenever the parameters may have changed: read it before you read them."""
        return self._revision

    @property
    def steps(self) -> int:
        """Steps that the parameters and moments have gone through; they change together."""
        return self._taken[0]

    @steps.setter
    def steps(self, steps: int) -> None:
        self._taken[0] = steps

    def parameters(self) -> Parameters:
        """A copy of the parameters."""
        with self._turn:
            return self._parameters()

    def load_parameters(self, parameters: Parameters) -> None:
        """Copy the parameters in; Adam's moments become zero. N-gram embeddings that are left out become zero, fixed
        parameters stay as they are.
        """
        self._change(self._lock, self._load_parameters, parameters)
        self._is_torn = False

    def snapshot(self) -> Snapshot:
        """A copy of the parameters for `restore`."""
        with self._turn:
            return self._snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Restore the parameters of a snapshot; Adam's moments stay as they are."""
        self._change(self._turn, self._restore, snapshot)

    def moments(self) -> Moments:
        """A copy of Adam's moments."""
        with self._turn:
            return self._copy_moments()

    def load_moments(self, moments: Moments) -> None:
        """Replace Adam's moments (copied)."""
        self._change(self._turn, self._load_moments, moments)

    def train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None = None) -> list[float]:
        """Steps `first` to `first + count - 1`, each on the next documents in turn; their losses.

        `progress` is where the first stands in the schedule of `adam.steps`, if that is not `first`.
        Raises `DivergedError` at the first loss or gradient that is not finite: that step changes nothing. Its
        attribute `losses` lists the losses of the steps before it in this call.
        Raises `TapeGPTError` for no documents and for steps out of range, which machine code must not be given.
        """
        if not len(tokens):
            raise TapeGPTError("there is no document to train on: give at least one")
        STEPS.check("first", first)
        STEPS.check("count", count)
        return self._change(self._turn, self._train, tokens, adam, first, count, progress)

    def evaluate(self, tokens: Tokens) -> tuple[float, int]:
        """Sum of -log(probability) over all documents, in nats, and the number of tokens predicted."""
        with self._turn:
            return self._evaluate(tokens)

    def generate(self, rng: Random, count: int, temperature: float, max_length: int | None = None) -> Strings:
        """`count` sequences of token ids without BOS, drawn with `rng`, cut at `max_length` tokens or at the block.

        Beyond the block they are drawn in windows, see `data/windows.py`.
        """
        with self._turn:
            return self._generate(rng, count, temperature, self.config.block_size if max_length is None else max_length)

    @abstractmethod
    def parameters_in(self, snapshot: Snapshot) -> Parameters:
        """The trained parameters of a snapshot, of this engine or another of its kind and shape."""

    # --- what an engine does, one call at a time ----------------------------------------------------------------

    @abstractmethod
    def _parameters(self) -> Parameters: ...

    @abstractmethod
    def _load_parameters(self, parameters: Parameters) -> None: ...

    @abstractmethod
    def _snapshot(self) -> Snapshot: ...

    @abstractmethod
    def _restore(self, snapshot: Snapshot) -> None: ...

    @abstractmethod
    def _copy_moments(self) -> Moments: ...

    @abstractmethod
    def _load_moments(self, moments: Moments) -> None: ...

    @abstractmethod
    def _train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None) -> list[float]: ...

    @abstractmethod
    def _evaluate(self, tokens: Tokens) -> tuple[float, int]: ...

    @abstractmethod
    def _generate(self, rng: Random, count: int, temperature: float, max_length: int) -> Strings: ...
