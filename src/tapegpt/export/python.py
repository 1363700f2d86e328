"""A model as one file of Python without dependencies, for CPython 3.8 and up: a module and a program.

Strings and probabilities are those of the model's own engine; they are found out in plain Python, in milliseconds each.
Not here: how kernels become Python (`machine/python.py`).
"""

from __future__ import annotations

import sys
from array import array
from base64 import encodebytes
from zlib import compress

from tapegpt.export.portable import KEY, TRIES, name_of, portable
from tapegpt.machine.language import F32, F64
from tapegpt.machine.python import Module
from tapegpt.machine.target import PYTHON
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.models.trained import GPT

_SIZES = {"key": 4, "ids": 4}  # of the numbers in a region, where they have not 8 bytes

_HEAD = '''\
#!/usr/bin/env python3
"""{name}, in plain Python: strings like those that it was trained on.

    python3 FILE.py --prefix a --seed 1           20 strings; --help tells more
    import FILE                                   FILE.generate(20, seed=1), FILE.score(["anna"]), FILE.next("an")

Written by tapegpt {version}. The same seed gives the same strings as `tapegpt generate --seed` of the model's file. It
needs nothing but CPython 3.8 or newer. One thread at a time may call. Text is split into the longest tokens that fit.
"""

import base64
import os
import zlib
'''
_BODY = '''

BLOCK_SIZE = {block}  # tokens of a string unless more are requested
MAX_LENGTH = {room}
TOKENS = {tokens!a}
LABELS = {labels!a}  # columns and their values
_NUMBERS = {{token: number for number, token in enumerate(TOKENS)}}
_PAIRS = [(column, value) for column, values in LABELS for value in values]
_LONGEST = max(map(len, TOKENS), default=1)
_parameters = struct.unpack("<{count}{code}", zlib.decompress(base64.b64decode(PARAMETERS)))
{reals}[:{count}] = _parameters
k_prepare(0)


def _seed(number):
    number = int.from_bytes(os.urandom(8), "little") if number is None else abs(number)
    words = [number >> 32 * place & 0xFFFFFFFF for place in range(max(-(-number.bit_length() // 32), 1))]
    if len(words) > {words}:
        raise ValueError("a seed has at most {words} words of 32 bits")
    U32[{key} : {key} + len(words)] = words
    k_seed(0, len(words))


def _encode(text):
    """The tokens of a text, each the longest that fits."""
    numbers, place = [], 0
    while place < len(text):
        for size in range(_LONGEST, 0, -1):
            number = _NUMBERS.get(text[place : place + size])
            if number is not None:
                break
        else:
            raise ValueError(f"the model does not know {{text[place]!a}} in {{text!a}}")
        numbers.append(number)
        place += size
    return numbers


def _label(column, values, labels):
    """The token of the label that is given for a column."""
    pair = (column, labels.get(column))
    if pair not in _PAIRS:
        raise ValueError(f"{{column}} must be one of {{', '.join(values)}}, not {{pair[1]!a}}")
    return len(TOKENS) + _PAIRS.index(pair)


def _head(labels):
    return [_label(column, values, labels or {{}}) for column, values in LABELS]


def _put(numbers):
    if len(numbers) > MAX_LENGTH:
        raise ValueError(f"a string may have {{MAX_LENGTH}} tokens, not {{len(numbers)}}")
    U32[{ids} : {ids} + len(numbers)] = numbers


def _draw(given, longest, temperature, fits):
    """The tokens of the next string that begins so and fits."""
    for _ in range({tries}):
        _put(given)
        k_generate(0, len(given), longest, temperature)
        numbers = U32[{ids} : {ids} + I64[{length}]]
        if fits(numbers):
            return numbers
    raise ValueError("none of {tries} strings has these labels")


def _draw_head(labels, temperature):
    """A label of each column, as strings have them beside those that are given."""
    if all(column in labels for column, _ in LABELS):
        return _head(labels)
    wanted = [_label(column, values, labels) if column in labels else None for column, values in LABELS]

    def fits(numbers):
        columns = [_PAIRS[each - len(TOKENS)][0] if each >= len(TOKENS) else None for each in numbers]
        is_wanted = all(need in (None, each) for need, each in zip(wanted, numbers))
        return columns == [column for column, _ in LABELS] and is_wanted

    return _draw([], len(LABELS), temperature, fits)


def generate(n=20, prefix="", *, temperature=0.5, seed=None, max_length=None, labels=None):
    """n strings that begin with the prefix, the same for the same seed; a temperature of 0 takes what is most probable.

    They have at most max_length tokens, by default a block with their labels, which are a value for each column;
    others than are given are drawn. Raises ValueError for what cannot be.
    """
    if not 0.0 <= temperature <= 1000.0:
        raise ValueError(f"temperature must be from 0 to 1000, not {{temperature!r}}")
    begin, temperature, strings = _encode(prefix), max(float(temperature), 1e-9), []
    longest = BLOCK_SIZE if max_length is None else max_length + len(LABELS)
    if not len(LABELS) + len(begin) <= longest <= MAX_LENGTH:
        lengths = f"{{len(begin)}} to {{MAX_LENGTH - len(LABELS)}}"
        raise ValueError(f"max_length must be from {{lengths}}, not {{longest - len(LABELS)}}")
    _seed(seed)
    for _ in range(n):
        head = _draw_head(labels or {{}}, temperature)
        place = len(head)
        numbers = _draw(head + begin, longest, temperature, lambda each: max(each[place:], default=0) < len(TOKENS))
        strings.append("".join([TOKENS[each] for each in numbers[place:]]))
    return strings


def _read(text, labels):
    """Read a string; its tokens with its labels."""
    numbers = _head(labels) + _encode(text)
    _put(numbers)
    k_read(0, len(numbers), 0)
    return len(numbers)


def _score(text, labels):
    total, count = 0.0, _read(text, labels) + 1 - len(LABELS)
    for nats in F64[{surprises} + len(LABELS) : {surprises} + len(LABELS) + count]:  # sum() may round otherwise
        total += nats
    return total / count


def score(strings, labels=None):
    """How surprising strings are: the mean of -log p of the tokens and the end of each, in nats."""
    return [_score(text, labels) for text in strings]


def next(prefix="", labels=None):
    """The probability of each token behind a prefix, and under "" that the string ends; the largest first."""
    _read(prefix, labels)
    numbers = dict(zip(TOKENS, F64[{rows} : {rows} + len(TOKENS)]))
    numbers[""] = F64[{rows} + len(TOKENS) + len(_PAIRS)]
    return dict(sorted(numbers.items(), key=lambda pair: -pair[1]))


def main():
    import argparse
    import sys

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=20, help="how many strings")
    parser.add_argument("--prefix", default="", help="what they begin with")
    parser.add_argument("--temperature", type=float, default=0.5, help="higher means more surprising strings")
    parser.add_argument("--seed", type=int, help="the same seed gives the same strings")
    parser.add_argument("--max-length", type=int, help="tokens of a string, at most")
    parser.add_argument("--label", action="append", default=[], metavar="COLUMN=VALUE", help="of what it is one")
    parser.add_argument("--score", action="store_true", help="of strings on standard input: nats, a tab, the string")
    parser.add_argument("--next", action="store_true", help="the probability of each token behind the prefix")
    options = parser.parse_args()
    labels = dict(each.partition("=")[::2] for each in options.label)
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if options.score:
            for line in sys.stdin:
                text = line.rstrip("\\n")
                print(f"{{score([text], labels)[0]:.4f}}\\t{{text}}")
        elif options.next:
            for token, probability in next(options.prefix, labels).items():
                print(f"{{probability:.4f}}\\t{{token}}")
        else:
            more = dict(temperature=options.temperature, seed=options.seed, max_length=options.max_length)
            for text in generate(options.n, options.prefix, labels=labels, **more):
                print(text)
    except ValueError as error:
        parser.error(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
'''


def export(model: GPT) -> bytes:
    """The file; raises `TapeGPTError` for an ensemble."""
    about = portable(model, PYTHON)
    module = Module(PYTHON, about.size)
    for name, (kernel, constants) in about.entries.items():
        module.add(kernel, constants, name)
    code, real = ("d", F64) if about.engine == "exact" else ("f", F32)
    numbers = array(code, about.parameters)
    if sys.byteorder == "big":
        numbers.byteswap()
    body = _BODY.format(
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
    parameters = f'\n\nPARAMETERS = """\n{encodebytes(compress(numbers.tobytes(), 9)).decode()}"""\n'
    head = _HEAD.format(name=name_of(model), version=__version__)
    return "".join([head, str(module), parameters, body]).encode("ascii", "backslashreplace")
