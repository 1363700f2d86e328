"""The benchmarks' command line: prints Markdown tables, as they are in the README."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

from benchmarks import (
    attribution,
    browser,
    budgets,
    classify,
    cluster,
    command,
    constraints,
    detectors,
    fast,
    generators,
    inference,
    kernels,
    ladder,
    peer_torch,
    pyodide,
    quality,
    randomness,
    studio,
    sweep,
    text,
    tokens,
    training,
    whole,
)
from benchmarks.timing import cpu_name
from tapegpt import Config, Corpus, TapeGPTError
from tapegpt.settings import Settings
from tapegpt.settings import seconds as budget_seconds

PARTS = (
    "training",
    "sizes",
    "whole",
    "fast",
    "generation",
    "inference",
    "constraints",
    "kernels",
    "quality",
    "budgets",
    "command",
    "random",
    "torch",
    "text",
    "tokens",
    "ladder",
    "generators",
    "detectors",
    "classify",
    "attribution",
    "studio",
    "sweep",
    "cluster",
    "pyodide",
    "browser",
)
SHAPE = {"n_layer": 1, "n_embd": 64, "n_head": 4, "block_size": 16}


def main() -> None:
    """Run the chosen parts."""
    options = arguments(sys.argv[1:])
    corpus = Corpus.read(options.data) if options.data else Corpus.dataset("names")
    if options.oracle:
        training.check_against_oracle(corpus, options.oracle)
        print("losses, parameters and samples equal the published ones\n")
    print(f"{platform.python_implementation()} {platform.python_version()}, {cpu_name()}, {sys.platform}\n")
    for part in options.parts or PARTS:
        print(_run(part, corpus, options), flush=True)


def _run(part: str, corpus: Corpus, options: argparse.Namespace) -> str:
    match part:
        case "training":
            return training.against_reference(corpus, options.rounds)
        case "sizes":
            return training.by_size(corpus, options.rounds)
        case "whole":
            return whole.by_third(corpus, options.steps, options.rounds, dict(options.peer))
        case "fast":
            return fast.training_step(corpus, options.rounds)
        case "generation":
            return fast.generation(corpus, options.rounds)
        case "inference":
            return inference.by_task(corpus, options.rounds)
        case "constraints":
            return constraints.by_kind(corpus, options.rounds)
        case "kernels":
            return kernels.by_kernel(corpus, _shape(options), options.batch_size, options.rounds)
        case "quality":
            return quality.by_preset(options.data, options.budget or quality.BUDGETS, options.rounds)
        case "budgets":
            return budgets.by_corpus(options.budget or budgets.BUDGETS)
        case "torch":
            return peer_torch.against_torch(corpus, options.rounds)
        case "text":
            return text.by_time(options.budget or text.BUDGETS)
        case "tokens":
            return tokens.by_task(options.budget or tokens.BUDGETS)
        case "ladder":
            return ladder.by_model(corpus, options.rounds)
        case "generators":
            return generators.by_tool(corpus, options.rounds)
        case "detectors":
            return detectors.by_kind(corpus, options.rounds)
        case "classify":
            return classify.by_task()
        case "attribution":
            parts = (attribution.by_question, attribution.by_ranking)
            return "\n".join(part(corpus, options.rounds) for part in parts)
        case "studio":
            return studio.under_load()
        case "cluster":
            return cluster.by_cost(corpus, options.rounds)
        case "pyodide":
            with command.workplace(None) as folder:
                return pyodide.by_job(corpus, options.rounds, folder)
        case "browser":
            with command.workplace(None) as folder:
                return "\n".join([browser.with_server(), browser.without_server(corpus, folder / "studio")])
        case "sweep":
            return "\n".join(
                [sweep.by_threads(corpus, options.rounds), sweep.by_memory(corpus), sweep.by_choice(corpus)]
            )
        case "command":
            return command.whole_command(options.data, dict(options.peer), options.rounds)
        case _:
            return randomness.against_cpython(options.rounds)


def _shape(options: argparse.Namespace) -> Config:
    """The model of the part `kernels`."""
    return Config(**{name: getattr(options, name) for name in SHAPE})


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; ends the program with one line if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Times tapegpt; checks results first.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to run: {', '.join(PARTS)}; all unless named")
    parser.add_argument("--data", metavar="FILE", help="train on this file instead of the embedded names")
    parser.add_argument("--oracle", metavar="DIR", help="published results for --data, to be equal to")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="samples of each contender (11)")
    parser.add_argument(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="in the parts command and whole another program, in a folder with the data as input.txt; repeatable",
    )
    parser.add_argument(
        "--budget",
        action="append",
        metavar="TIME",
        help=f"in the parts quality ({' and '.join(quality.BUDGETS)}), text ({' and '.join(text.BUDGETS)}), "
        f"tokens ({' and '.join(tokens.BUDGETS)}) and budgets ({', '.join(budgets.BUDGETS)})",
    )
    for name, default in {**SHAPE, "batch_size": 16}.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, metavar="N", help=f"in the part kernels ({default})")
    parser.add_argument("--steps", type=int, default=whole.STEPS, metavar="N", help="of the part whole (%(default)s)")
    options = parser.parse_args(words)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.steps < 3 * options.rounds:
        parser.error("--steps must be at least three times --rounds")
    _check(parser, options)
    if options.oracle and not options.data:
        parser.error("--oracle needs --data, the file that the published results were made from")
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse at once what the package would refuse later."""
    try:
        _shape(options)
        Settings(engine="fast", batch_size=options.batch_size)
        list(map(budget_seconds, options.budget or ()))
    except TapeGPTError as error:
        parser.error(error.for_command)


def _peer(text: str) -> tuple[str, str]:
    name, equals, line = text.partition("=")
    if not (name and equals and line.strip()):
        raise argparse.ArgumentTypeError(f"must be NAME=COMMAND, not {text!r}")
    return name, line


if __name__ == "__main__":
    main()
