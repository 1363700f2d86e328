"""What tokens of several characters are good for: molecules, tunes, and names in four scripts.

Molecules are 30,000 SMILES of MOSES, which the package molsets ships, and RDKit says which are valid. Tunes are the
Essen folk songs in ABC, which music21 ships; a bar is right if its notes are as long as the metre says. Names are
Faker's. A budget counts CPU time of one thread, since others use the machine too. Correct first: all the data are
valid, and all their bars right. Packages that are not installed are named, and their part is left out.
"""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any
from unittest.mock import patch

import tapegpt
from benchmarks.timing import table
from tapegpt import GPT, Corpus
from tapegpt.data.holdout import hold_out
from tapegpt.data.ngrams import baselines

ABSENT = "{} is not installed here, so that its part is not measured: pip install -e '.[peers]', --no-deps molsets\n"
BUDGETS = ("5s", "20s")
STRINGS, SEEDS, HELD_OUT = 2_000, 3, 0.1
TEMPERATURES = (1.0, 0.7)

MOLECULES, SMILES_BLOCK = 30_000, 64
SMILES = {
    "characters": "characters",
    "`Cl`, `Br`, `[...]`": r"Cl|Br|\[[^]]+\]|.",
    "atoms with signs": r"\(*[-=#:/\\]?(?:Cl|Br|\[[^]]+\]|[A-Za-z])(?:%\d\d|\d)*\)*|.",  # bonds, rings, branches
}

TUNE = re.compile(r"M:(\d+/[1-9]\d*)\nL:(\d+/[1-9]\d*)\nK:.*\n([^:]*)")
NOTE = re.compile(r"([_^=]*[A-Ga-gz][,']*)(\d*)(/?)([1-9]\d*|)")
TUNES_BLOCK, LONGEST = 128, 500  # tokens, characters
ABC = {"characters": "characters", "notes": rf"[MLK]:.*\n|{NOTE.pattern}|."}
GRAM = 5

NAMES = 20_000
SCRIPTS = {"Devanagari": "hi_IN", "Arabic": "ar_AA", "Hangul": "ko_KR", "Han": "zh_CN"}


def by_task(budgets: Sequence[str] = BUDGETS, seeds: int = SEEDS) -> str:
    """The tables of the packages that are installed."""
    parts: dict[str, Callable[[], str]] = {
        "moses rdkit": lambda: molecules(moses(), valid, budgets, seeds),
        "music21": lambda: tunes(essen(), budgets, seeds),
        "faker": lambda: scripts({script: names(locale) for script, locale in SCRIPTS.items()}, budgets),
    }
    printed = []
    for needed, part in parts.items():
        absent = [name for name in needed.split() if not find_spec(name)]
        printed += [ABSENT.format(name) for name in absent] or [part()]
    return "\n".join(printed)


def trained(corpus: Corpus, budget: str, seed: int, block_size: int, **options: Any) -> GPT:
    """A model that had so much CPU time; compiling does not count."""
    with patch("time.perf_counter", process_time):
        return tapegpt.train(corpus, budget=budget, seed=seed, block_size=block_size, threads=1, **options)


def by_rule(
    strings: list[str], rules: dict[str, str], budgets: Sequence[str], seeds: int, block_size: int, **options: Any
) -> dict[tuple[str, str], list[GPT]]:
    """Models of each budget and rule, which took turns."""
    corpora = {name: Corpus.of(strings, tokens=rule) for name, rule in rules.items()}
    found: dict[tuple[str, str], list[GPT]] = {}
    for budget in budgets:
        for seed in range(1, seeds + 1):
            for name, corpus in corpora.items():
                found.setdefault((budget, name), []).append(trained(corpus, budget, seed, block_size, **options))
    return found


def spread(shares: Sequence[float]) -> str:
    """Median of percentages, with the lowest and the highest."""
    return f"{median(shares):.1%} ({min(shares):.1%}..{max(shares):.1%})"


# --- molecules --------------------------------------------------------------------------------------------------


def moses() -> list[str]:
    """Molecules of drug-like size, canonical SMILES without charges and stereochemistry."""
    with gzip.open(_folder("moses") / "dataset" / "data" / "train.csv.gz", "rt", encoding="ascii") as file:
        rows = [line.partition(",")[0] for line in file.read().splitlines()[1:]]
    return random.Random(1).sample(rows, MOLECULES)


def valid(text: str) -> bool:
    """Whether RDKit reads it as a molecule."""
    import_module("rdkit.RDLogger").DisableLog("rdApp.*")
    return bool(text) and import_module("rdkit.Chem").MolFromSmiles(text) is not None


def molecules(strings: list[str], is_valid: Callable[[str], bool], budgets: Sequence[str], seeds: int) -> str:
    """Shares of valid strings by each rule; all rules take turns."""
    assert all(map(is_valid, strings[:STRINGS]))
    known, rows = set(strings), []
    for (budget, name), models in by_rule(strings, SMILES, budgets, seeds, SMILES_BLOCK).items():
        cells = [f"{median(model.steps for model in models):,.0f}"]
        for temperature in TEMPERATURES:
            drawn = [model.generate(STRINGS, temperature=temperature, seed=1) for model in models]
            every, *rest = zip(*[shares(each, is_valid, known) for each in drawn], strict=True)
            cells += [spread(every), *[f"{median(each):.1%}" for each in rest]]
        rows.append([f"{budget}, {name}", *cells])
    heads = ["", "steps"]
    for temperature in TEMPERATURES:
        heads += [f"valid at temperature {temperature}", "different", "new"]
    title = f"Valid molecules of {STRINGS:,}, after equal CPU time on {len(strings):,}, {seeds} seeds"
    return table(title, heads, rows)


def shares(drawn: list[str], is_valid: Callable[[str], bool], known: set[str]) -> tuple[float, float, float]:
    """Of strings that are valid; of those that are different; of those that are new."""
    good = list(filter(is_valid, drawn))
    different = set(good)
    new = different - known
    return len(good) / len(drawn), len(different) / max(len(good), 1), len(new) / max(len(different), 1)


# --- tunes ------------------------------------------------------------------------------------------------------


def essen() -> list[str]:
    """Folk songs of one metre whose bars are all right: metre, unit of length, key, and a line for each phrase."""
    found = dict[str, None]()
    for path in sorted((_folder("music21") / "corpus" / "essenFolksong").glob("*.abc")):
        for song in re.split(r"\n(?=X:)", path.read_text("latin-1")):
            head = re.search(r"^M: *(\d+/\d+)\n+L: *(\d+/\d+)\n+K: *(\S+) *\n", song, re.MULTILINE)
            if head:
                found[normal(head[1], head[2], head[3], song[head.end() :])] = None
    return [song for song in found if len(song) <= LONGEST and (judged := right_bars(song)) and all(judged)]


def normal(metre: str, unit: str, key: str, body: str) -> str:
    """A song without spaces; a line that ends with a bar ends with its stroke."""
    strokes, lines = "", []
    for line in body.replace(" ", "").split():
        strokes += line
        is_full = length(strokes.rpartition("|")[2]) == Fraction(metre) / Fraction(unit)
        strokes += "|" if is_full else ""
        lines.append(line + ("|" if is_full else ""))
    return f"M:{metre}\nL:{unit}\nK:{key}\n" + "\n".join(lines)


def length(bar: str) -> Fraction | None:
    """In units of length; none where something else than notes is in a bar."""
    if NOTE.sub("", bar.replace("\n", "")):
        return None
    notes = NOTE.findall(bar)
    return sum(
        (Fraction(int(n or 1), int(d or 2) if slash else 1) for _, n, slash, d in notes if d != "0"), Fraction(0)
    )


def right_bars(song: str) -> list[bool]:
    """Of each bar but the first and the last, which may be parts of one; none where the head is no head."""
    parts = TUNE.fullmatch(song)
    if not parts or Fraction(parts[2]) == 0:
        return []
    whole = Fraction(parts[1]) / Fraction(parts[2])
    return [length(bar) == whole for bar in parts[3].split("|")[1:-1]]


def tunes(songs: list[str], budgets: Sequence[str], seeds: int) -> str:
    """Shares of right bars by each rule, and of 5-grams of the same tokens."""
    assert all(all(right_bars(song)) for song in songs)
    rows = [_bars(f"5-gram, {name}", [walk(Corpus.of(songs, tokens=rule), STRINGS)], "") for name, rule in ABC.items()]
    for (budget, name), models in by_rule(songs, ABC, budgets, seeds, TUNES_BLOCK, long="window").items():
        drawn = [model.generate(STRINGS, temperature=1.0, max_length=LONGEST, seed=1) for model in models]
        rows.append(_bars(f"{budget}, {name}", drawn, f"{median(model.steps for model in models):,.0f}"))
    heads = ["", "steps", "bars of the right length", "tunes with all bars right"]
    title = f"Bars of the right length in {STRINGS:,} tunes, after equal CPU time on {len(songs):,}, {seeds} seeds"
    return table(title, heads, rows)


def walk(corpus: Corpus, n: int) -> list[str]:
    """Strings of a 5-gram that does not smooth: it only continues what it has seen."""
    following: dict[tuple[str, ...], list[str]] = {}
    for pieces in corpus.vocabulary.split_all(corpus.documents):
        padded = [""] * (GRAM - 1) + [*pieces, ""]
        for start, token in enumerate(padded[GRAM - 1 :]):
            following.setdefault(tuple(padded[start : start + GRAM - 1]), []).append(token)
    rng, strings = random.Random(1), []
    for _ in range(n):
        text = [""] * (GRAM - 1)
        while token := rng.choice(following[tuple(text[1 - GRAM :])]):
            text.append(token)
        strings.append("".join(text))
    return strings


def _bars(name: str, samples: Sequence[list[str]], steps: str) -> list[str]:
    bars, whole = [], []
    for songs in samples:
        judged = list(map(right_bars, songs))
        every = list(chain.from_iterable(judged))
        bars.append(sum(every) / max(len(every), 1))
        whole.append(sum(bool(each) and all(each) for each in judged) / len(songs))
    return [name, steps, spread(bars), spread(whole)]


# --- scripts ----------------------------------------------------------------------------------------------------


def names(locale: str) -> list[str]:
    """Different full names, as Faker draws them."""
    fake = import_module("faker").Faker(locale)
    fake.seed_instance(1)
    return list(dict.fromkeys(fake.name() for _ in range(NAMES)))


def scripts(samples: dict[str, list[str]], budgets: Sequence[str]) -> str:
    """Held-out losses beside those of a 5-gram of the same tokens, in nats per name, which do not depend on tokens."""
    rows = []
    for script, strings in samples.items():
        for rule in ("characters", *(["graphemes"] if script == "Devanagari" and find_spec("regex") else [])):
            training, held_out = hold_out(Corpus.of(strings, tokens=rule), HELD_OUT, 1)
            a_name = held_out.predictions / len(held_out)
            cells = [f"{baselines(training, held_out, training.vocab_size)['5-gram'] * a_name:.3f}"]
            for budget in budgets:
                model = trained(training, budget, 1, max(map(len, strings)) + 1)
                total, count = model.engine.evaluate(held_out.tokens())
                assert count == held_out.predictions
                cells.append(f"{total / len(held_out):.3f}")
            rows.append([f"{script}, {rule}", f"{len(strings):,}", f"{training.vocab_size - 1:,}", *cells])
    heads = ["", "names", "tokens", "5-gram", *budgets]
    return table("Held-out loss of names in four scripts, nats per name", heads, rows)


def _folder(package: str) -> Path:
    """Where a package is, without importing it."""
    spec = find_spec(package)
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
