"""`tapegpt calibrate`: thresholds for `tapegpt score`, from strings known to be good. Not here: `scores.py`."""

from __future__ import annotations

from array import array

from tapegpt.cli.console import notice, print_json, table
from tapegpt.cli.data import check_file, data_arguments, stream_of
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, option, switch
from tapegpt.errors import TapeGPTError
from tapegpt.inference.scores import FEW, Calibration
from tapegpt.ranges import Number
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RATES = (0.1, 0.05, 0.01, 0.001)  # of false alarms
ROUGH = f"rough: fewer than {FEW} to be expected"
COMMON = "--dataset --alarm-rate --json --labels --output"


def arguments(parser: ArgumentParser) -> None:
    model_argument(parser)
    about = "They must not be training strings."
    data_arguments(parser.add_argument_group("strings known to be good", about), "standard input")
    about = "print only the threshold that this share of good strings exceeds, for score --threshold"
    option(parser, "--alarm-rate", Number(0, 1, "()"), about)
    about = "with --labels, model file to write, with label probabilities calibrated on these strings"
    option(parser, "-o, --output", "FILE", about)
    switch(parser, "--json", "JSON")


def run(options: Namespace) -> int:
    source, model, nats, labelled = stream_of(options), load_model(options), array("d"), list[str]()
    if (options.output is None) is bool(source.labels):
        raise TapeGPTError(
            "--labels and --output are for each other, to write how sure of labels a model is: give both"
        )
    for strings in source.batches():
        texts = model.vocabulary.relabel(strings, source.labels)
        nats.extend(model.score(texts).nats)
        labelled += filter(None, texts if source.labels else ())
    if options.output is not None:
        check_file("--output", options.output, source.listing())
        model.calibrate_labels(labelled)
        model.save(options.output)
    calibration = Calibration(nats)
    if options.alarm_rate is not None:
        calibration.threshold(options.alarm_rate)  # raises where the strings are too few
    rows = [_row(calibration, rate) for rate in ([options.alarm_rate] if options.alarm_rate else RATES)]
    if options.alarm_rate is not None and rows[0]["rough"]:
        notice(ROUGH)
    if options.json:
        print_json({"strings": len(calibration), "thresholds": rows})
    elif options.alarm_rate is not None:
        print(rows[0]["threshold"])
    else:
        unit = model.vocabulary.unit
        print(f"thresholds from {amount(len(calibration), 'string')}")
        for line in table([("false alarms", f"nats per {unit}", "strings above", ""), *map(_cells, rows)], ">>><"):
            print(line)
    return 0


def _row(calibration: Calibration, rate: float) -> dict[str, Any]:
    """What there is to say of a rate; without a threshold where the strings are too few."""
    found = {"rate": rate, "threshold": None, "above": 0, "rough": calibration.is_rough(rate)}
    try:
        return {**found, "threshold": calibration.threshold(rate), "above": calibration.alarms(rate)}
    except TapeGPTError:
        return found


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    rate = f"{100 * row['rate']:g} %"
    if row["threshold"] is None:
        return rate, "-", "-", "too few strings"
    return rate, f"{row['threshold']:.3f}", f"{row['above']:,}", ROUGH if row["rough"] else ""
