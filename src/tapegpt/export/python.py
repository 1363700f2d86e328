"""A model as one file of Python without dependencies, for CPython 3.8 and up: a module and a program.

Strings and probabilities are those of the model's own engine; they are found out in plain Python, in milliseconds each.
Not here: how kernels become Python (`machine/python.py`).
"""

from __future__ import annotations

import sys
from array import array
from base64 import encodebytes
from zlib import compress

from tapegpt.export.portable import KEY, TRIES, fill, name_of, portable
from tapegpt.machine.language import F32, F64
from tapegpt.machine.python import Module
from tapegpt.machine.target import PYTHON
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.models.trained import GPT

_SIZES = {"key": 4, "ids": 4}  # of the numbers in a region, where they have not 8 bytes


def export(model: GPT) -> bytes:
    """The file; raises `TapeGPTError` for an ensemble."""
    about = portable(model, PYTHON)
    module = Module(PYTHON, about.size).add_all(about.entries)
    code, real = ("d", F64) if about.engine == "exact" else ("f", F32)
    numbers = array(code, about.parameters)
    if sys.byteorder == "big":
        numbers.byteswap()
    return fill(
        "model.py.in",
        name=name_of(model),
        version=__version__,
        kernels=module,
        parameters=encodebytes(compress(numbers.tobytes(), 9)).decode(),
        block=about.block_size,
        room=about.room,
        tokens=about.vocabulary.tokens,
        labels=about.vocabulary.labels,
        words=KEY,
        tries=TRIES,
        code=code,
        count=len(numbers),
        reals=f"{real}".upper(),
        **{name: place // _SIZES.get(name, 8) for name, place in about.places.items()},
    )
