"""A model as C99 in one file, to compile or to include, without libraries but libm and without the heap.

Where TAPEGPT_MAIN is defined it is a program, and declarations alone where TAPEGPT_HEADER is. Strings and probabilities
are those of the model's own engine where the C library has the same exp, log and pow. Not here: how kernels become C
(`machine/c.py`).
"""

from __future__ import annotations

from array import array
from itertools import groupby

from tapegpt.export.portable import TRIES, Portable, fill, name_of, portable, template
from tapegpt.machine.c import Module, helpers
from tapegpt.machine.target import C
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.models.trained import GPT

FEW = 1000  # zeros one after the other that are written; more are left out, which C++ does not take


def export(model: GPT) -> bytes:
    """The file; raises `TapeGPTError` for an ensemble."""
    about = portable(model, C)
    module = Module(C).add_all(about.entries)
    vocabulary = about.vocabulary
    texts = [_utf8(text) for text in vocabulary]
    pairs = [(_utf8(column), _utf8(value), vocabulary.columns.index(column)) for column, value in vocabulary.pairs]
    return fill(
        "model.c.in",
        name=name_of(model),
        version=__version__,
        vocab_size=vocabulary.size,
        block=about.block_size,
        room=about.room,
        tries=TRIES,
        size=about.size,
        texts=len(texts),
        columns=len(vocabulary.columns),
        longest=max(map(len, texts), default=1),
        tokens="".join([f"    {{{_literal(text)}, {len(text)}}},\n" for text in texts]),
        names="".join([f"    {{{_literal(a)}, {_literal(b)}, {n}}},\n" for a, b, n in pairs]),
        parameters=_parameters(about),
        helpers=helpers(f"{template('model.c.in')}{module}"),
        kernels=module,
        **about.places,
    )


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _literal(text: bytes) -> str:
    plain = [chr(code) if 32 <= code < 127 and chr(code) not in '"\\?' else f"\\{code:03o}" for code in text]
    return f'"{"".join(plain)}"'


def _parameters(about: Portable) -> str:
    """Numbers by their bits; of many zeros none is written."""
    size = 8 if about.engine == "exact" else 4
    bits, texts, place, mark = array("Q" if size == 8 else "I", about.parameters), list[str](), 0, ""
    for is_zero, run in groupby(bits, key=lambda number: not number):
        numbers = [f"0x{number:x}" for number in run]
        place += len(numbers)
        if is_zero and len(numbers) > FEW:
            mark = f"[{place}] = "
        else:
            texts += [mark + numbers[0], *numbers[1:]]
            mark = ""
    rows = [f"    {', '.join(texts[start : start + 6])},\n" for start in range(0, len(texts), 6)]
    return f"static const uint{8 * size}_t tg_parameters[{len(bits)}] = {{\n{''.join(rows)}}};"
