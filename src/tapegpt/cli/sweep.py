"""`tapegpt sweep`: find the settings with the lowest held-out loss; many models are trained, the best ones longer."""

from __future__ import annotations

import math

from tapegpt.cli.cluster import executor, ray_argument
from tapegpt.cli.console import STDOUT, Pace, StatusLine, command_of, fail, notice, print_report, table, write_page
from tapegpt.cli.data import check_file, corpus_of, data_arguments, data_paths
from tapegpt.cli.models import class_argument, find_class
from tapegpt.cli.options import ArgumentParser, Namespace, option, parse, setting_arguments, split_pairs, switch
from tapegpt.errors import TapeGPTError
from tapegpt.ranges import OneOf, Whole
from tapegpt.settings import SECONDS, SEED, SHARE, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tapegpt.experiments.ranking import Row, Sweep
    from tapegpt.experiments.search import Plan, Rung
    from tapegpt.experiments.sweep import Sweeping

TOP = 20  # rows of the leaderboard
WIDTH = 100  # columns
BASELINE = "5-gram"
COMMON = "--dataset --grid --random --preset --budget --steps --validation --output --ensemble --run-dir --html --json"


def arguments(parser: ArgumentParser) -> None:
    from tapegpt.experiments.optuna_sampler import NAMES
    from tapegpt.experiments.sweep import SEEDS, TRIALS
    from tapegpt.training.presets import PRESETS

    data_arguments(parser.add_argument_group("data"))
    space = parser.add_argument_group("what is searched: settings of the model and the training, and preset")
    class_argument(space)
    about = "values of a setting, such as n_embd=16,32,64; all combinations are tried"
    option(space, "--grid", "NAME=X,Y", about, action="append", default=[])
    about = "range of a setting, such as learning_rate=0.001..0.1; logarithmic if it spans a decade"
    option(space, "--random", "NAME=X..Y", about, action="append", default=[])
    option(space, "--trials", Whole(1), f"candidates to draw [{TRIALS}]")
    option(space, "--preset", OneOf(PRESETS), "values of the settings that are not searched")
    about = f"sampler of Optuna that chooses candidates, {', '.join(NAMES)}, instead of random ones"
    option(space, "--sampler", OneOf(NAMES), about)
    length = parser.add_argument_group("how long")
    option(length, "--budget", SECONDS, "time for the whole sweep, such as 10s or 2m, compiling not included")
    about = "training steps of the best candidates, instead of a budget [1000, or the preset's]"
    option(length, "--steps", Settings.ranges["steps"], about)
    about = "plan of an earlier sweep, to repeat it: '100x250 33x750x3' is candidates x steps x seeds"
    option(length, "--plan", "PLAN", about)
    option(length, "--seeds", Whole(1), "trainings of each of the last candidates", default=SEEDS)
    option(length, "--validation", SHARE, "share of the distinct strings to hold out", default=0.1)
    option(length, "--seed", SEED, "seed of all random numbers", default=42)
    setting_arguments(length, Settings, "threads")
    ray_argument(length)
    output = parser.add_argument_group("output")
    option(output, "-o, --output", "FILE", "file to write the best model to")
    option(output, "--ensemble", Whole(1), "number of the best models to write as an ensemble instead")
    option(output, "--run-dir", "DIR", "directory for the sweep's journal; the same command resumes it")
    option(output, "--html", "FILE", "file for the leaderboard as a page, - for standard output")
    switch(output, "--json", "JSON, with all results")


def run(options: Namespace) -> int:
    from tapegpt.experiments.optuna_sampler import adapt
    from tapegpt.experiments.search import Space, fields_of
    from tapegpt.experiments.sweep import Sweeping, SweepSetup

    kind = find_class(options)
    fields = fields_of(kind)
    grid, random = _grid(options.grid, fields), _random(options.random, fields)
    space = Space(grid, random, options.preset, {} if options.steps is None else {"steps": options.steps}, kind)
    sampler = adapt(options.sampler, space, options.seed)
    _check_outputs(options)
    names = ("trials", "seeds", "budget", "plan", "validation", "seed")
    with executor(options.ray, options.threads) as (train, threads):
        setup = SweepSetup(**{name: getattr(options, name) for name in names}, threads=threads)
        sweeping = Sweeping(corpus_of(options, options.tokens), space, setup, sampler, options.run_dir, train)
        _check_ensemble(options.ensemble, sweeping.plan.rungs[-1])
        finished = _watch(sweeping, quiet=options.json)
    if not finished and not sweeping.rung and not sweeping.done:
        return fail("interrupted before a training was over", 130)
    swept = sweeping.so_far()
    try:
        if finished:
            _write(swept, options)
    finally:
        print_report(swept, _page, options.json)
    if finished:
        return 0
    again = "; the same command continues from here" if options.run_dir is not None else ""
    where = f"rung {sweeping.rung + 1} of {len(sweeping.plan.rungs)}, {sweeping.done} trainings into it"
    return fail(f"interrupted in {where}{again}", 130)


def _check_outputs(options: Namespace) -> None:
    """Find out before training what could not be written after it, or would destroy the data."""
    if options.ensemble is not None and options.output is None:
        raise TapeGPTError("--ensemble is about the file that is written: give -o FILE too")
    data = data_paths(options)
    if options.output is not None:
        check_file("--output", options.output, data)
    if options.html not in (None, STDOUT):
        check_file("--html", options.html, data)


def _check_ensemble(wanted: int | None, last: Rung) -> None:
    models = last.count * last.seeds
    if wanted is not None and not 1 <= wanted <= models:
        raise TapeGPTError(f"--ensemble must be a whole number from 1 to {models}, the last trainings, not {wanted}")


# --- what is searched -------------------------------------------------------------------------------------------


def _grid(texts: list[str], fields: dict[str, str]) -> dict[str, list[Any]]:
    return {
        name: [parse("--grid", name, fields.get(name, "str"), value) for value in values.split(",")]
        for name, values in split_pairs("--grid", texts)
    }


def _random(texts: list[str], fields: dict[str, str]) -> dict[str, tuple[Any, Any]]:
    ranges = {}
    for name, value in split_pairs("--random", texts):
        low, dots, high = value.partition("..")
        if not dots:
            raise TapeGPTError(f"--random {name}={value}: must be a range such as {name}=1..10")
        low, high = (parse("--random", name, fields.get(name, "str"), end) for end in (low, high))
        ranges[name] = (low, high)
    return ranges


# --- while it runs ----------------------------------------------------------------------------------------------


def _watch(sweeping: Sweeping, quiet: bool) -> bool:
    """Let it run, showing how far it is; whether it came to the end. Ctrl-C ends it within about 50 ms."""
    if not quiet:
        print(f"num docs: {len(sweeping.field.corpus)}")
        print(f"held out: {len(sweeping.field.held_out)}, no two alike")
    if sweeping.compile_seconds:
        notice(f"compiled for {sweeping.compile_seconds:.1f} s for all shapes, outside a budget")
    line = StatusLine(quiet=quiet)
    rung, best, before, pace = -1, math.inf, 0, Pace("training")
    try:
        for outcome in sweeping:
            if sweeping.rung > rung:
                rung, best, before = sweeping.rung, math.inf, sweeping.done
                pace = Pace("training", sweeping.plan.rungs[rung].count * sweeping.plan.rungs[rung].seeds - before)
                line.clear()
                if not quiet:
                    print(_announce(sweeping.plan, rung), flush=True)
            best = min(best, outcome.loss)
            left = pace.text(sweeping.done - before)
            line.show(f"{sweeping.done:6d} done | lowest held-out loss {best:.4f} | {left}")
    except KeyboardInterrupt:
        return False
    finally:
        line.clear()
    return True


def _announce(plan: Plan, rung: int) -> str:
    text = f"rung {rung + 1} of {len(plan.rungs)}: {_describe(plan.rungs[rung])}"
    if rung == 0 and len(plan.rungs) > 1:
        text += f"; then about {', '.join(map(_describe, plan.rungs[1:]))}"
    return text


def _describe(rung: Rung) -> str:
    seeds = f" x {rung.seeds} seeds" if rung.seeds > 1 else ""
    return f"{rung.count} x {rung.steps} steps{seeds}"


# --- what came of it --------------------------------------------------------------------------------------------


def _page(swept: Sweep) -> Iterator[str]:
    yield f"plan: {swept.plan}"
    if swept.left_out:
        yield f"left out: {sum(swept.left_out.values())}, for instance because {next(iter(swept.left_out))}"
    yield ""
    yield from leaderboard(swept)


def leaderboard(swept: Sweep) -> list[str]:
    """A table of the best candidates, at most `WIDTH` columns wide: losses, what they differ in, what they cost."""
    names = swept.differences()
    rows = [[str(rank), *_cells(row, names)] for rank, row in enumerate(swept.rows[:TOP], 1)]
    if swept.baselines:
        below = next((index for index, row in enumerate(swept.rows[:TOP]) if _is_below(row, swept)), len(rows))
        rows.insert(below, [BASELINE, f"{swept.baselines[BASELINE]:.4f}", *[""] * (4 + len(names))])
    rows.insert(0, ["rank", "held-out", "+-", "parameters", "steps", "seconds", *names])
    left = 0  # fields that there is no room for
    while max(map(len, lines := list(table([row[: len(row) - left] for row in rows])))) > WIDTH:
        left += 1
    if left:
        lines.append(f"no room for {', '.join(names[-left:])}: --json has all")
    if len(swept.rows) > TOP:
        lines.append(f"and {len(swept.rows) - TOP} more: --json has all")
    return lines


def _is_below(row: Row, swept: Sweep) -> bool:
    """Whether a row stands below the baseline: it is worse, or was not trained to the end."""
    return row.rung < swept.rows[0].rung or row.outcome.loss > swept.baselines.get(BASELINE, math.inf)


def _cells(row: Row, names: list[str]) -> list[str]:
    outcome, fields = row.outcome, row.outcome.candidate.chosen()
    return [
        "diverged" if outcome.diverged else f"{outcome.loss:.4f}",
        "" if outcome.error is None else f"{outcome.error:.4f}",
        f"{outcome.parameters:,}",
        f"{row.steps:,}",
        f"{outcome.seconds:.3g}",
        *[f"{value:g}" if isinstance(value, float) else str(value) for value in map(fields.__getitem__, names)],
    ]


def _write(swept: Sweep, options: Namespace) -> None:
    if options.output is not None:
        model = swept.best if options.ensemble is None else swept.ensemble(options.ensemble)
        model.save(options.output)
    if options.html is not None:
        from tapegpt.web import colophon
        from tapegpt.web.leaderboard import page

        corpus = swept.field.corpus
        footer = colophon([command_of(options.command)], corpus.source, len(corpus))
        write_page(options.html, page([row.outcome for row in swept.rows], swept.baselines, footer))
