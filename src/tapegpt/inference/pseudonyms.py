"""Names for keys, which only who has a secret can lead back to them.

The stream of random numbers that draws a name is 128 bits of HMAC-SHA256(secret, number and key), random to who has
the model, the keys and the names, but not the secret. Keys that must not share a name choose one after the other, in an
order that only the secret tells: each takes its first candidate that is free. So names depend on which keys there are,
and never on how they are ordered or repeated.

All keys draw their candidates at once: one that comes before the holder of a name takes it over, and the holder goes on
with its next candidate. That ends with the same names (Gale and Shapley, 1962: all names prefer keys alike).

Not here: how a string is drawn (`sampling.py`).
"""

from __future__ import annotations

import hmac
from array import array

from tapegpt.errors import TapeGPTError, argument, either

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tapegpt.data.labels import Combination
    from tapegpt.inference.sampling import Sampler

    Key = tuple[str, Combination]  # with what is known of its labels
    Candidate = tuple[int, int]  # of a key by its rank, and its number, from 1 on

SECRET = 16  # bytes at least, so that it cannot be guessed
BATCH = 4096  # candidates drawn together
PATIENCE = 1000  # candidates for each key that gets a name


def read_secret(secret: str | bytes) -> bytes:
    """A secret as bytes; raises `TapeGPTError`, without its value, for what is none or too short."""
    given = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    if not isinstance(given, bytes | bytearray):
        raise TapeGPTError(f"{either('secret', '--secret-file')} must be a str or bytes, not {type(secret).__name__}")
    if len(given) < SECRET:
        raise TapeGPTError(
            f"{either('secret', '--secret-file')} must have at least {SECRET} bytes, not {len(given)}: "
            "choose one at random, such as secrets.token_hex(16)"
        )
    return bytes(given)


def names(
    samplers: Callable[[Combination], Sampler], keys: Iterable[Key], secret: bytes, *, unique: bool
) -> dict[Key, str]:
    """A name for each key, never empty, of the sampler of its labels; raises `TapeGPTError` where there are too few."""
    keyed = hmac.new(secret, digestmod="sha256")

    def digest(key: str, number: int) -> bytes:
        mac = keyed.copy()
        mac.update(number.to_bytes(8) + key.encode("utf-8", "surrogatepass"))
        return mac.digest()

    def draw(numbers: Iterable[Candidate]) -> dict[Candidate, str]:
        apart: dict[Combination, list[Candidate]] = {}
        for each in numbers:
            apart.setdefault(ranked[each[0]][1], []).append(each)
        drawn: dict[Candidate, str] = {}
        for labels, some in apart.items():
            streams = _streams(digest(ranked[rank][0], number) for rank, number in some)
            drawn.update(zip(some, samplers(labels).of_streams(streams), strict=True))
        return drawn

    ranked = sorted(set(keys), key=lambda key: (digest(key[0], 0), key[0], repr(key[1])))
    tried = [0] * len(ranked)  # candidates of each key
    found: dict[int, str] = {}  # by rank
    holders: dict[str, int] = {}
    waiting, several = list(range(len(ranked))), 1  # candidates of each at a time
    while waiting:
        before = len(found)
        candidates = draw([(rank, tried[rank] + more) for rank in waiting for more in range(1, several + 1)])
        looked_at, again = 0, list[int]()
        for rank in waiting:
            sampler = samplers(ranked[rank][1])
            for _ in range(several):
                tried[rank] += 1
                looked_at += 1
                name = candidates[rank, tried[rank]]
                holder = holders.get(name, rank)
                if not name or holder < rank or not sampler.admits(name):
                    continue
                if holder > rank:
                    del found[holder]
                    again.append(holder)
                found[rank] = name
                if unique:
                    holders[name] = rank
                break
            else:
                again.append(rank)
        if looked_at >= BATCH and (len(found) - before) * PATIENCE < looked_at:
            remedies = [argument(name, False) for name in (["unique", "novel"] if unique else ["novel"])]
            raise TapeGPTError(
                f"{len(found):,} of {len(ranked):,} keys have a name, and hardly any other name comes: choose a higher "
                f"{argument('temperature')}, {', '.join(remedies)}, or looser constraints"
            )
        waiting, several = again, min(2 * several, BATCH // (len(again) or 1) + 1)
    return {ranked[rank]: name for rank, name in found.items()}


def _streams(digests: Iterable[bytes]) -> array[int]:
    """As `Random.streams` gives them, of the first 128 bits of each."""
    streams = array("Q")
    for digest in digests:
        streams.append(int.from_bytes(digest[:8]))
        streams.append(int.from_bytes(digest[8:16]) | 1)
    return streams
