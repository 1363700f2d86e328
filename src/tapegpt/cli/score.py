"""`tapegpt score`: how surprising strings are to a model, a line each, or the rows of a table with their scores."""

from __future__ import annotations

import math
import sys
from collections import Counter
from itertools import chain
from operator import add, itemgetter, mul

from tapegpt.cli.cluster import bulk_arguments, check_bulk, write_parts
from tapegpt.cli.console import bar, colour, colours, facts, output, watched
from tapegpt.cli.data import data_arguments, source_of, stream_of, write_table
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, flag, label_argument, option, output_argument, switch
from tapegpt.data.rows import OUTPUT_FORMATS, Rows
from tapegpt.errors import TapeGPTError
from tapegpt.inference.scores import END, ODD, Score, Scores
from tapegpt.ranges import Number, OneOf, Whole
from tapegpt.text import amount, columns, escape_line, json_line, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tapegpt.data.sources import Source
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.data.writers import Added
    from tapegpt.models.trained import GPT

PERCENTILES = (50, 90, 99)  # of the training strings, that a summary counts what is above
BINS_A_NAT, LAST_BIN, BAR = 4, 40, 50  # of a summary's histogram
LISTED, LABEL = 8, 18  # unknown characters that it shows, columns of its labels
BATCH = 10_000  # sorted strings that are scored together
MARGIN = 22  # columns before the strings
STRONG = 2.5  # nats from which a token is coloured
EXCLUSIVE = (
    *(("characters", "json"), ("characters", "summary"), ("summary", "sort"), ("summary", "top")),
    *[("line_numbers", each) for each in ("json", "summary", "unique")],
)
NO_TABLE = ("sort", "top", "unique", "characters", "line_numbers", "summary", "json")
COMMON = "--dataset --column --sort --top --min-percentile --threshold --output --output-format --summary --json"


def arguments(parser: ArgumentParser) -> None:
    model_argument(parser, data=True)
    about = "A blank line is the empty string, so there are as many scores as lines."
    data_arguments(parser.add_argument_group("strings", about), "standard input")
    label_argument(parser, "all strings")
    chosen = parser.add_argument_group("which of them")
    switch(chosen, "--sort", "the most surprising first")
    option(chosen, "--top", Whole(1), "the N most surprising, sorted")
    about = "those at least as surprising as so many percent of the training strings"
    option(chosen, "--min-percentile", Number(0, 100), about)
    about = "those above X nats per token; tapegpt calibrate finds X for a rate of false alarms"
    option(chosen, "--threshold", Number(kind="finite number"), about)
    shown = parser.add_argument_group("output")
    output_argument(shown, "scores")
    about = "table with all columns of DATA and the scores: csv, tsv, jsonl, parquet [text]; with --ray [jsonl]"
    option(shown, "--output-format", OneOf(OUTPUT_FORMATS), about)
    switch(shown, "--line-numbers", "the number of each string's line, of a table its row")
    switch(shown, "--characters", "which characters are surprising, or tokens")
    switch(shown, "--summary", "counts and a histogram instead of strings")
    switch(shown, "--json", "JSON lines, with the nats of each token")
    parser.epilog = (
        "A line holds one string, with escapes such as \\n for control characters, and \\\\ for a backslash; tables "
        "hold strings unescaped."
    )
    bulk_arguments(parser.add_argument_group("many strings, on many machines"))


def run(options: Namespace) -> int:
    for name, other in EXCLUSIVE:
        if getattr(options, name) and getattr(options, other) not in (None, False):
            raise TapeGPTError(f"{flag(name)} and {flag(other)} exclude each other: give one of them")
    if options.label is not None and options.labels:
        raise TapeGPTError("--label and --labels exclude each other: give one of them")
    check_bulk(options, ("output", "sort", "top", "characters", "line_numbers", "summary", "json"))
    is_table = options.output_format not in (None, "text") and options.ray is None
    for name in NO_TABLE if is_table else ():
        if getattr(options, name) not in (None, False):
            raise TapeGPTError(f"{flag(name)} does not go with a table, whose rows keep their order: leave it out")
    if options.ray is not None and not options.data and options.dataset is None:
        raise TapeGPTError("--ray scores files: give the path of one, or several")
    model, least, percentile = load_model(options), options.threshold, options.min_percentile
    if percentile is not None and not (model.ranks or model.documents):
        raise TapeGPTError(
            f"{options.model}: keeps no percentiles of its training strings: give --training-data, or --threshold"
        )
    if options.ray is not None:
        from tapegpt.cluster import score

        chosen = {"threshold": least, "min_percentile": percentile, "label": options.label}
        return write_parts(options, score, model, source_of(options), **chosen)
    source = stream_of(options)
    with output(options.output):
        if is_table:
            write_table(options.output_format, source, _score_rows(model, source, options))
            return 0
        scored = _choose(watched(_score(model, source, options), "string", len), least, percentile)
        if options.sort or options.top is not None:
            scored = _sort(scored, options.top, model)
        if options.summary:
            _print_summary(_Summary(scored, model.vocabulary), options.json)
        elif options.json:
            for each in chain.from_iterable(scored):
                print(json_line(_as_fields(each)))
        else:
            _print_lines(scored, options.characters, options.line_numbers)
    return 0


# --- which strings ----------------------------------------------------------------------------------------------


def _score(model: GPT, source: Source, options: Namespace) -> Iterator[Scores]:
    """The scores of all strings, by the numbers of their lines if asked."""
    if not options.line_numbers:
        for texts in source.batches(keep_blank=True):
            yield model.score(model.vocabulary.relabel(texts, source.labels, options.label))
        return
    line = 1
    for rows in source.tables():
        scores = model.score(model.vocabulary.relabel(source.chosen(rows), source.labels, options.label))
        scores.index = range(line, line + len(scores))
        line += len(scores)
        yield scores.take([number for number, nats in enumerate(scores.nats) if nats == nats])


def _score_rows(model: GPT, source: Source, options: Namespace) -> Iterator[tuple[Rows, Added]]:
    """The rows that are chosen, with what there is to say of their strings; nothing of those that are blank."""
    for rows in watched(source.tables(), "row", len):
        texts = [text or None for text in source.chosen(rows)]
        scores = model.score(model.vocabulary.relabel(texts, source.labels, options.label))
        chosen = _chosen(scores, options.threshold, options.min_percentile)
        added = (scores if chosen is None else scores.take(chosen)).as_columns()
        del added["text"]
        yield rows if chosen is None else rows.take(chosen), added


def _choose(scored: Iterable[Scores], least: float | None, min_percentile: float | None) -> Iterator[Scores]:
    for scores in scored:
        chosen = _chosen(scores, least, min_percentile)
        taken = scores if chosen is None else scores.take(chosen)
        if len(taken):
            yield taken


def _chosen(scores: Scores, least: float | None, min_percentile: float | None) -> list[int] | None:
    """Numbers of those that are; None where all are wanted."""
    if least is None and min_percentile is None:
        return None
    numbers = [number for number, nats in enumerate(scores.nats) if least is None or nats > least]
    if min_percentile is not None:
        shares = scores.percentiles
        numbers = [number for number in numbers if (shares[number] or 0.0) >= min_percentile]
    return numbers


def _sort(scored: Iterable[Scores], top: int | None, model: GPT) -> Iterator[Scores]:
    """The most surprising first, of equals the first; only `top` of them are kept in memory."""
    from heapq import nlargest

    pairs = (each for scores in scored for each in zip(scores.nats, scores.texts, scores.index, strict=True))
    by_nats = itemgetter(0)
    found = sorted(pairs, key=by_nats, reverse=True) if top is None else nlargest(top, pairs, key=by_nats)
    for start in range(0, len(found), BATCH):
        scores = model.score([text for _, text, _ in found[start : start + BATCH]])
        scores.index = [number for _, _, number in found[start : start + BATCH]]
        yield scores


# --- what is said -----------------------------------------------------------------------------------------------


def _print_lines(scored: Iterable[Scores], tokens: bool, numbered: bool) -> None:
    coloured, margin = colours(), MARGIN + 8 * numbered
    header = f"{'  line  ' * numbered}{'nats':>8}  percentile  string\n"
    for scores in scored:
        texts = [_mark(score, coloured, margin) for score in scores] if tokens else _annotate(scores)
        columns: list[Iterable[object]] = [scores.nats, _format_percentiles(scores), texts]
        columns = [scores.index, *columns] if numbered else columns
        line = f"{'%6d  ' * numbered}%8.3f%s%s\n"
        lines = line * len(scores) % tuple(chain.from_iterable(zip(*columns, strict=True)))  # 4 times faster
        sys.stdout.write(header + lines)
        sys.stdout.flush()
        header = ""
    sys.stdout.write(header)  # of no string


def _format_percentiles(scores: Scores) -> Iterable[str]:
    """Percentiles as they are shown, as a column; there are few that differ."""
    shares = scores.percentiles
    shown = {share: f"  {'-' if share is None else f'{share:.1f}':>10}  " for share in set(shares)}
    return map(shown.__getitem__, shares)


def _annotate(scores: Scores) -> list[str]:
    """The strings on a line each, with what the model does not know of them."""
    every = "".join(scores.texts)
    shown = list(scores.texts if escape_line(every) == every else map(escape_line, scores.texts))
    if not scores.unknown:
        return shown
    notes = [f"  (the model does not know {visible(each)})" if each else "" for each in scores.unknown_of_each()]
    return list(map(add, shown, notes))


def _mark(score: Score, coloured: bool, margin: int = MARGIN) -> str:
    """A string and the sign for its end, coloured by surprise, or with a digit below each token, 9 for more."""
    line, digits = [], []
    for position, (token, nats) in enumerate(zip((*score.tokens, END), score.surprises, strict=True)):
        is_unknown = position in score.unknown
        line.append(colour(visible(token), _style(nats, is_unknown) if coloured else ""))
        digits.append(("?" if is_unknown else str(min(int(nats), 9))) * columns(token))
    return "".join(line) if coloured else f"{''.join(line)}\n{'':{margin}}{''.join(digits)}"


def _style(nats: float, unknown: bool) -> str:
    if unknown:
        return "7;31"  # red, inverse
    return "1;31" if nats > ODD else "33" if nats > STRONG else ""  # bold red, yellow


def _as_fields(score: Score) -> dict[str, object]:
    surprises = [round(nats, 6) for nats in score.surprises]
    return {
        "text": score.text,
        "tokens": list(score.tokens),
        "nats": round(score.nats, 6),
        "bits": round(score.bits, 6),
        "perplexity": round(score.perplexity, 6),
        "percentile": score.percentile,
        "surprises": surprises,
        "odd": [
            {"position": position, "token": (*score.tokens, "")[position], "nats": surprises[position]}
            for position in score.odd
        ],
        "unknown": list(score.unknown),
    }


class _Summary:
    """What is counted of strings that are not kept."""

    def __init__(self, scored: Iterable[Scores], vocabulary: Vocabulary) -> None:
        self.unit = vocabulary.unit
        self.strings = self.tokens = 0
        self.nats = 0.0
        self.bins: Counter[int] = Counter()  # strings by `BINS_A_NAT` times the mean of their tokens
        self.above = dict.fromkeys(PERCENTILES, 0)
        self.unknown: Counter[str] = Counter()  # strings by the tokens that the model does not know
        self.ranked = True
        for scores in scored:
            split = vocabulary.split_all(scores.texts)
            counts = [len(each) + 1 for each in split]
            self.strings += len(counts)
            self.tokens += sum(counts)
            self.nats += math.fsum(map(mul, scores.nats, counts))
            self.bins.update([min(int(nats * BINS_A_NAT), LAST_BIN) for nats in scores.nats])
            for each in split if scores.unknown else ():
                self.unknown.update(scores.unknown.intersection(each))
            shares = [share for share in scores.percentiles if share is not None]
            self.ranked = bool(shares)
            for percentile in PERCENTILES:
                self.above[percentile] += sum(share > percentile for share in shares)

    def as_dict(self) -> dict[str, object]:
        """As JSON has it; a bin of the histogram begins at so many nats, and ends where the next one would."""
        return {
            "strings": self.strings,
            f"{self.unit}s": self.tokens - self.strings,
            "nats": self.nats / self.tokens,
            "bits": self.nats / self.tokens / math.log(2),
            "perplexity": math.exp(min(self.nats / self.tokens, 700.0)),
            "unknown": dict(self.unknown.most_common()),
            "histogram": [{"from": each / BINS_A_NAT, "strings": self.bins[each]} for each in sorted(self.bins)],
            "above_percentile": {str(each): count for each, count in self.above.items()} if self.ranked else None,
        }


def _print_summary(summary: _Summary, as_json: bool) -> None:
    if not summary.strings:
        raise TapeGPTError("there is no string to summarise: choose more of them")
    if as_json:
        print(json_line(summary.as_dict()))
        return
    for line in facts(_summary_facts(summary), LABEL):
        print(line)


def _summary_facts(summary: _Summary) -> Iterator[tuple[str, str]]:
    mean = summary.nats / summary.tokens
    yield "strings", f"{summary.strings:,} of {summary.tokens - summary.strings:,} {summary.unit}s"
    yield f"nats a {summary.unit}", f"{mean:.4f}, the ends counted; perplexity {math.exp(min(mean, 700.0)):.2f}"
    if summary.ranked:
        shares = [f"{count / summary.strings:.1%} above the {each}th" for each, count in summary.above.items()]
        yield "percentiles", f"{', '.join(shares)} of the training strings"
    for token, count in summary.unknown.most_common(LISTED):
        yield "unknown", f"{visible(token)}  in {amount(count, 'string')}"
    if len(summary.unknown) > LISTED:
        yield "", f"and {len(summary.unknown) - LISTED:,} {summary.unit}s more, see --json"
    most = max(summary.bins.values())
    for number in range(min(summary.bins), max(summary.bins) + 1):
        end = "more" if number == LAST_BIN else f"{(number + 1) / BINS_A_NAT:.2f}"
        count = summary.bins[number]
        yield f"{number / BINS_A_NAT:.2f} to {end}", f"{count:>{len(f'{most:,}')},}  {bar(count / most, BAR)}"
