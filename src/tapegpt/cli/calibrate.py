"""`tapegpt calibrate`: thresholds for `tapegpt score`, from strings known to be good. Not here: `scores.py`."""

from __future__ import annotations

import math
from array import array

from tapegpt.cli.console import notice, print_json, table
from tapegpt.cli.data import data_arguments, stream_of
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import number, option
from tapegpt.data.streaming import batches
from tapegpt.errors import TapeGPTError
from tapegpt.inference.scores import FEW, Calibration
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    Row = tuple[float, float | None, int]  # rate, threshold, strings above it

RATES = (0.1, 0.05, 0.01, 0.001)  # of false alarms
COMMON = "--dataset --alarm-rate --bits --json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    model_argument(parser)
    about = "They must not have been trained on."
    data_arguments(parser.add_argument_group("strings known to be good", about), "standard input")
    about = "print only the threshold that this share of good strings exceeds, for score --threshold"
    option(parser, "--alarm-rate", number, about)
    parser.add_argument("--bits", action="store_true", help="bits instead of nats per character")
    parser.add_argument("--json", action="store_true", help="JSON")


def run(options: argparse.Namespace) -> int:
    """Print the threshold of a rate, or those of some rates."""
    model, unit = load_model(options), math.log(2) if options.bits else 1.0
    nats = array("d")
    for strings in batches(stream_of(options)):
        nats.extend(model.score(strings).nats)
    calibration = Calibration(nats)
    if options.alarm_rate is not None:
        threshold = calibration.threshold(options.alarm_rate)
        notice(_rough(calibration, options.alarm_rate))
        rows: list[Row] = [(options.alarm_rate, threshold / unit, calibration.alarms(options.alarm_rate))]
    else:
        rows = [_row(calibration, rate, unit) for rate in RATES]
    if options.json:
        print_json({"strings": len(calibration), "thresholds": [_fields(calibration, *row) for row in rows]})
    elif options.alarm_rate is not None:
        print(rows[0][1])
    else:
        _print_table(calibration, rows, "bits" if options.bits else "nats")
    return 0


def _row(calibration: Calibration, rate: float, unit: float) -> Row:
    try:
        return rate, calibration.threshold(rate) / unit, calibration.alarms(rate)
    except TapeGPTError:  # too few strings
        return rate, None, 0


def _fields(calibration: Calibration, rate: float, threshold: float | None, above: int) -> dict[str, object]:
    return {"rate": rate, "threshold": threshold, "above": above, "rough": calibration.is_rough(rate)}


def _print_table(calibration: Calibration, rows: Sequence[Row], unit: str) -> None:
    cells = [("false alarms", f"{unit} a character", "strings above", "")]
    for rate, threshold, above in rows:
        numbers = (
            ("-", "-", "too few strings")
            if threshold is None
            else (f"{threshold:.3f}", f"{above:,}", _rough(calibration, rate))
        )
        cells.append((f"{100 * rate:g} %", *numbers))
    print(f"thresholds from {amount(len(calibration), 'string')}")
    for line in table(cells, ">>><"):
        print(line)


def _rough(calibration: Calibration, rate: float) -> str:
    return f"rough: fewer than {FEW} to be expected" if calibration.is_rough(rate) else ""
