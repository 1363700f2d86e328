"""`tapegpt score`: how surprising strings are to a model, a line each; thresholds from strings known to be good."""

from __future__ import annotations

import math
import sys
from array import array
from collections import Counter
from itertools import chain
from operator import add, itemgetter, mul

from tapegpt.cli.cluster import bulk_arguments, check_bulk
from tapegpt.cli.console import colours, notice
from tapegpt.cli.data import data_arguments, source_of
from tapegpt.cli.models import file_argument, loaded
from tapegpt.cli.options import number, whole
from tapegpt.data.sources import STDIN
from tapegpt.data.streaming import batches
from tapegpt.errors import TapeGPTError
from tapegpt.inference.scores import END, FEW, ODD, Calibration
from tapegpt.text import amount, columns, json_line, line_writer, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from tapegpt.inference.scores import Score, Scores
    from tapegpt.models.trained import GPT

RATES = (0.1, 0.05, 0.01, 0.001)  # of false alarms, for which thresholds are shown
PERCENTILES = (50, 90, 99)  # of the training strings, that a summary counts what is above
BINS_A_UNIT, LAST_BIN, BAR = 4, 40, 50  # of a summary's histogram
LISTED = 8  # unknown characters that it shows
BATCH = 10_000  # sorted strings that are scored together
MARGIN = 22  # columns before the strings
STRONG = 2.5  # nats from which a character is coloured


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", help="file written by tapegpt train -o")
    file_argument(parser)
    about = "A blank line is the empty string: there are as many scores as lines."
    data_arguments(parser.add_argument_group("strings", about), "standard input")
    chosen = parser.add_argument_group("which of them")
    chosen.add_argument("--sort", action="store_true", help="the most surprising first")
    chosen.add_argument("--top", type=whole, metavar="N", help="the N most surprising, sorted")
    about = "those at least as surprising as so many percent of the training strings"
    chosen.add_argument("--min-percentile", type=number, metavar="X", help=about)
    chosen.add_argument("--threshold", type=number, metavar="X", help="those above X nats per character")
    about = "those above the threshold that this share of good strings exceeds, see --calibrate"
    chosen.add_argument("--alarm-rate", type=number, metavar="X", help=about)
    about = "file of strings known to be good, not trained on: alone it shows thresholds for rates of false alarms"
    chosen.add_argument("--calibrate", metavar="FILE", help=about)
    output = parser.add_argument_group("what is said of them")
    output.add_argument("--bits", action="store_true", help="in bits, not nats; --threshold too")
    output.add_argument("--characters", action="store_true", help="show which characters are surprising")
    output.add_argument("--summary", action="store_true", help="counts and a histogram instead of strings")
    output.add_argument("--json", action="store_true", help="JSON lines, with the nats of each character")
    bulk_arguments(parser.add_argument_group("many, on many machines"), "jsonl")


def run(options: argparse.Namespace) -> int:
    """Print the strings with their scores, or what is asked for instead."""
    _check(options)
    check_bulk(options, ("sort", "top", "alarm_rate", "calibrate", "characters", "summary", "json"))
    unit = math.log(2) if options.bits else 1.0
    model = loaded(options, options.model)
    notice(model.inference.notice)
    if options.min_percentile is not None and not model.ranks:
        raise TapeGPTError(f"{options.model}: keeps no percentiles of its training strings: give --threshold instead")
    calibration = None if options.calibrate is None else _calibrated(options, model)
    if calibration is not None and options.alarm_rate is None:
        _print_thresholds(calibration, unit, options.json)
        return 0
    least = None if options.threshold is None else options.threshold * unit
    if calibration is not None:
        least = calibration.threshold(options.alarm_rate)
    if options.ray is not None:
        from tapegpt.cli.cluster import score

        return score(options, model, least)
    if not options.data and options.dataset is None:
        options.data = [STDIN]
    if options.data == [STDIN] and sys.stdin is not None and sys.stdin.isatty():
        notice("reading strings from the terminal, one a line: Ctrl-D ends them")
    scored = _chosen(map(model.score, batches(source_of(options), keep_blank=True)), least, options.min_percentile)
    if options.sort or options.top is not None:
        scored = _sorted(scored, options.top, model)
    if options.summary:
        _print_summary(_Summary(scored, unit), options.json)
    elif options.json:
        _print_json(scored)
    else:
        _print_lines(scored, model.vocabulary, unit, options.characters)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse what does not fit together."""
    exclusive = (
        ("--characters", options.characters, "--json", options.json),
        ("--characters", options.characters, "--summary", options.summary),
        ("--summary", options.summary, "--sort", options.sort),
        ("--summary", options.summary, "--top", options.top is not None),
        ("--threshold", options.threshold is not None, "--alarm-rate", options.alarm_rate is not None),
        ("--threshold", options.threshold is not None, "--calibrate", options.calibrate is not None),
    )
    for name, given, other, given_too in exclusive:
        if given and given_too:
            raise TapeGPTError(f"{name} and {other} exclude each other: give one of them")
    if options.alarm_rate is not None and options.calibrate is None:
        raise TapeGPTError("--alarm-rate needs strings known to be good: give them with --calibrate FILE")
    if options.calibrate is not None and options.alarm_rate is None:
        names = ("dataset", "sort", "top", "min_percentile", "characters", "summary")
        others = [*options.data, *[f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]]
        if others:
            raise TapeGPTError(f"--calibrate alone shows thresholds: give --alarm-rate too, or leave out {others[0]}")
    if options.calibrate == STDIN and (STDIN in options.data or not (options.data or options.dataset)):
        raise TapeGPTError(
            "--calibrate - and the strings: standard input can be read once, give a file for one of them"
        )
    if options.top is not None and options.top < 1:
        raise TapeGPTError(f"--top must be a whole number from 1 on, not {options.top}")
    if options.min_percentile is not None and not 0 <= options.min_percentile <= 100:
        raise TapeGPTError(f"--min-percentile must be a number from 0 to 100, not {options.min_percentile}")
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise TapeGPTError(f"--threshold must be a finite number, not {options.threshold}")


# --- which strings ----------------------------------------------------------------------------------------------


def _calibrated(options: argparse.Namespace, model: GPT) -> Calibration:
    """What the strings known to be good, which are read as the others are, say of thresholds."""
    from argparse import Namespace

    good = Namespace(**{**vars(options), "data": [options.calibrate], "dataset": None})
    nats = array("d")
    for strings in batches(source_of(good)):
        nats.extend(model.score(strings).nats)
    return Calibration(nats)


def _chosen(scored: Iterable[Scores], least: float | None, min_percentile: float | None) -> Iterator[Scores]:
    """Those that are surprising enough."""
    for scores in scored:
        chosen = scores
        if least is not None:
            chosen = chosen.take(place for place, nats in enumerate(chosen.nats) if nats > least)
        if min_percentile is not None:
            shares = chosen.percentiles
            chosen = chosen.take(place for place, share in enumerate(shares) if (share or 0.0) >= min_percentile)
        if len(chosen):
            yield chosen


def _sorted(scored: Iterable[Scores], top: int | None, model: GPT) -> Iterator[Scores]:
    """The most surprising first, of equals the first; only `top` of them are kept in memory."""
    from heapq import nlargest

    pairs = (pair for scores in scored for pair in zip(scores.nats, scores.texts, strict=True))
    by_nats = itemgetter(0)
    found = sorted(pairs, key=by_nats, reverse=True) if top is None else nlargest(top, pairs, key=by_nats)
    for start in range(0, len(found), BATCH):
        yield model.score([text for _, text in found[start : start + BATCH]])


# --- what is said -----------------------------------------------------------------------------------------------


def _print_lines(scored: Iterable[Scores], vocabulary: str, unit: float, characters: bool) -> None:
    coloured, on_a_line = colours(), line_writer(vocabulary)
    print(f"{'bits' if unit != 1.0 else 'nats':>8}  percentile  string")
    for scores in scored:
        texts = [_marked(score, unit, coloured) for score in scores] if characters else _shown(scores, on_a_line)
        nats = scores.nats if unit == 1.0 else [nats / unit for nats in scores.nats]
        fields = zip(nats, _percents(scores), texts, strict=True)
        sys.stdout.write("%8.3f  %10s  %s\n" * len(scores) % tuple(chain.from_iterable(fields)))  # 3 times faster
        sys.stdout.flush()


def _percents(scores: Scores) -> Iterable[str]:
    """Percentiles as they are shown; there are few that differ."""
    shares = scores.percentiles
    shown = {share: "-" if share is None else f"{share:.1f}" for share in set(shares)}
    return map(shown.__getitem__, shares)


def _shown(scores: Scores, on_a_line: Callable[[str], str]) -> list[str]:
    """The strings on a line each, with what the model does not know of them."""
    shown = list(map(on_a_line, scores.texts))
    if not scores.unknown:
        return shown
    unknown = [dict.fromkeys(character for character in text if character in scores.unknown) for text in scores.texts]
    notes = [f"  (the model does not know {visible(''.join(each))})" if each else "" for each in unknown]
    return list(map(add, shown, notes))


def _marked(score: Score, unit: float, coloured: bool) -> str:
    """A string and the sign for its end, coloured by surprise, or with a digit below each character, 9 for more."""
    line, digits = [], []
    for place, (character, nats) in enumerate(zip((*score.text, END), score.surprises, strict=True)):
        text = visible(character)
        style = _style(nats, place in score.unknown) if coloured else ""
        line.append(f"\x1b[{style}m{text}\x1b[0m" if style else text)
        digits.append(("?" if place in score.unknown else str(min(int(nats / unit), 9))) * columns(character))
    return "".join(line) if coloured else f"{''.join(line)}\n{'':{MARGIN}}{''.join(digits)}"


def _style(nats: float, unknown: bool) -> str:
    if unknown:
        return "7;31"  # red, inverse
    return "1;31" if nats > ODD else "33" if nats > STRONG else ""  # bold red, yellow


def _print_json(scored: Iterable[Scores]) -> None:
    for scores in scored:
        for score in scores:
            print(json_line(_plain(score)))


def _plain(score: Score) -> dict[str, object]:
    """A score as JSON has it; the nats of the end come last, and its character is an empty one."""
    surprises = [round(nats, 6) for nats in score.surprises]
    return {
        "text": score.text,
        "nats": round(score.nats, 6),
        "bits": round(score.bits, 6),
        "perplexity": round(score.perplexity, 6),
        "percentile": score.percentile,
        "surprises": surprises,
        "odd": [
            {"place": place, "character": score.text[place : place + 1], "nats": surprises[place]}
            for place in score.odd
        ],
        "unknown": list(score.unknown),
    }


class _Summary:
    """What is counted of strings that are not kept."""

    def __init__(self, scored: Iterable[Scores], unit: float) -> None:
        self.unit = unit
        self.strings = self.tokens = 0
        self.nats = 0.0
        self.bins: Counter[int] = Counter()  # strings by `BINS_A_UNIT` times the mean of their characters
        self.above = dict.fromkeys(PERCENTILES, 0)
        self.unknown: Counter[str] = Counter()  # strings by the characters that the model does not know
        self.ranked = True
        for scores in scored:
            counts = [len(text) + 1 for text in scores.texts]
            self.strings += len(counts)
            self.tokens += sum(counts)
            self.nats += math.fsum(map(mul, scores.nats, counts))
            self.bins.update([min(int(nats * BINS_A_UNIT / unit), LAST_BIN) for nats in scores.nats])
            for text in scores.texts if scores.unknown else ():
                self.unknown.update(scores.unknown.intersection(text))
            shares = [share for share in scores.percentiles if share is not None]
            self.ranked = bool(shares)
            for percentile in PERCENTILES:
                self.above[percentile] += sum(share > percentile for share in shares)

    def as_dict(self) -> dict[str, object]:
        """As JSON has it; a bin of the histogram begins at so many nats, and ends where the next one would."""
        return {
            "strings": self.strings,
            "characters": self.tokens - self.strings,
            "nats": self.nats / self.tokens,
            "bits": self.nats / self.tokens / math.log(2),
            "perplexity": math.exp(min(self.nats / self.tokens, 700.0)),
            "unknown": dict(self.unknown.most_common()),
            "histogram": [
                {"from": place * self.unit / BINS_A_UNIT, "strings": count}
                for place, count in sorted(self.bins.items())
            ],
            "above_percentile": {str(each): count for each, count in self.above.items()} if self.ranked else None,
        }


def _print_summary(summary: _Summary, as_json: bool) -> None:
    if not summary.strings:
        raise TapeGPTError("there is no string to summarise: choose more of them")
    if as_json:
        print(json_line(summary.as_dict()))
        return
    name = "bits" if summary.unit != 1.0 else "nats"
    mean = summary.nats / summary.tokens
    print(f"{'strings':18}{summary.strings:,} of {summary.tokens - summary.strings:,} characters")
    perplexity = math.exp(min(mean, 700.0))
    print(f"{name + ' a character':18}{mean / summary.unit:.4f}, the ends counted; perplexity {perplexity:.2f}")
    if summary.ranked:
        shares = [f"{count / summary.strings:.1%} above the {each}th" for each, count in summary.above.items()]
        print(f"{'percentiles':18}{', '.join(shares)} of the training strings")
    for character, count in summary.unknown.most_common(LISTED):
        print(f"{'unknown':18}{visible(character)}  in {amount(count, 'string')}")
    if len(summary.unknown) > LISTED:
        print(f"{'':18}and {len(summary.unknown) - LISTED:,} characters more, see --json")
    most = max(summary.bins.values())
    for place in range(min(summary.bins), max(summary.bins) + 1):
        end = "more" if place == LAST_BIN else f"{(place + 1) / BINS_A_UNIT:.2f}"
        span = f"{place / BINS_A_UNIT:.2f} to {end}"
        count = summary.bins[place]
        print(f"{span:18}{count:>{len(f'{most:,}')},}  {'#' * -(-count * BAR // most)}".rstrip())


def _print_thresholds(calibration: Calibration, unit: float, as_json: bool) -> None:
    """Thresholds for some rates, and how many strings are behind each."""
    rows: list[tuple[float, float | None, int]] = []
    for rate in RATES:
        try:
            rows.append((rate, calibration.threshold(rate) / unit, calibration.alarms(rate)))
        except TapeGPTError:  # too few to tell
            rows.append((rate, None, 0))
    if as_json:
        import json

        thresholds = [
            {"rate": rate, "threshold": threshold, "above": above, "rough": calibration.is_rough(rate)}
            for rate, threshold, above in rows
        ]
        print(json.dumps({"strings": len(calibration), "thresholds": thresholds}))
        return
    print(f"thresholds from {amount(len(calibration), 'string')}")
    print(f"false alarms  {'bits' if unit != 1.0 else 'nats'} a character  strings above")
    for rate, threshold, above in rows:
        if threshold is None:
            print(f"{f'{100 * rate:g} %':>12}  {'-':>16}  {'-':>13}  too few strings")
        else:
            rough = f"  rough: fewer than {FEW} to be expected" if calibration.is_rough(rate) else ""
            print(f"{f'{100 * rate:g} %':>12}  {threshold:>16.3f}  {above:>13,}{rough}")
