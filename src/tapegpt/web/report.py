"""A page about a model, as one HTML file that needs nothing else: what it generates, how it learned, what it knows.

All that there is to read stands in the HTML; `web/report.js` draws pictures from the data beside it. For the same model
and data the page is the same. Not here: the figures (`evaluation.py`, `web/data.py`), the drawing (`web/views.js`).
"""

from __future__ import annotations

from html import escape

from tapegpt.data.corpus import Corpus
from tapegpt.data.sources import Source
from tapegpt.data.vocabulary import CHARACTERS
from tapegpt.errors import TapeGPTError
from tapegpt.inference.language_model import MODEL
from tapegpt.inference.scores import END
from tapegpt.models.gpt import Config
from tapegpt.models.loading import reference
from tapegpt.record import Record
from tapegpt.text import amount
from tapegpt.training.presets import PRESETS, resolve
from tapegpt.web import colophon, compared, document, facts, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tapegpt.analysis.evaluation import EvaluationReport
    from tapegpt.autograd.model import Model
    from tapegpt.inference.scores import Score
    from tapegpt.models.trained import GPT
    from tapegpt.training.recording import Recording

    Data = dict[str, Any]

SAMPLES = 1000
TEMPERATURE = 0.5  # of the strings that are shown
MOMENTS, LEAST = 24, 6  # of the training that are shown: so many, or fewer where each is large
NUMBERS = 200_000  # of attention, in all moments
ROWS, STRINGS = 6, 6  # of the table of moments
EXTREMES = 6  # strings that surprise least, and most
LOOKED_AT = 10_000  # training strings that these are chosen from
QUANTILES = (1, 10, 50, 90, 99)  # percent


class _Findings(Record):
    """What the page tells."""

    model: GPT
    reason: str  # why the training could not be repeated; "" where it was
    run: Data
    moments: list[Data]
    chosen: int  # index of the moment that the model is: the last, or the best
    evaluation: EvaluationReport | None
    baselines: dict[str, float]  # losses of simpler models, of strings as the training's losses are
    least: list[Score]  # surprising of the training strings
    most: list[Score]


def report(model: GPT, *, text: str | None = None, samples: int = SAMPLES) -> str:
    """The page as HTML.

    The training is repeated to see the model at its steps; where that fails, the page says why and shows the rest.
    Training strings are `model.documents`, or are read again from where they came. The text that the model is watched
    at while it reads is by default the first of them; so many samples are compared with them. Raises `TapeGPTError`
    for a text that the model cannot read, and for a number of samples out of range.
    """
    MODEL.check("model", model)
    findings = _found(model, text, samples)
    title = f"A GPT of {amount(model.num_parameters, 'parameter')}"
    lines = [f"<h1>{title}</h1>", f"<p>{escape(_summary(findings))}</p>"]
    for heading, section in _sections(findings):
        lines += ["<section>", f"<h2>{heading}</h2>", *section, "</section>"]
    documents = model.data.documents if model.data else None
    lines.append(colophon([_command_of_page(text, samples)], _source(model), documents))
    return document(title, "\n".join(lines), _drawn(findings))


def _command_of_page(text: str | None, samples: int) -> str:
    from shlex import join

    options = [*([] if text is None else [f"--text={text}"]), *([] if samples == SAMPLES else [f"--samples={samples}"])]
    return join(["tapegpt", "report", "model.safetensors", *options])


# --- what there is to tell --------------------------------------------------------------------------------------


def _found(model: GPT, text: str | None, samples: int) -> _Findings:
    from tapegpt.analysis.evaluation import evaluate
    from tapegpt.web.data import Portrait

    corpus = _corpus(model)
    if text is None:
        generated = model.stream(seed=0, temperature=TEMPERATURE)
        text = corpus.documents[0] if corpus else next(filter(model.vocabulary.knows, generated))
        text = model.vocabulary.clip(text, model.config.block_size)
    model.vocabulary.encode(text, "text")  # which knows all of it, or says so
    recording, reason = _record(model, corpus, _moments(model, text))
    portrait = Portrait(recording)
    run = portrait.run(text, TEMPERATURE)
    moments = [portrait.moment(step, text, TEMPERATURE) for step in run["moments"]]
    chosen = run["moments"].index(recording.step)
    evaluation = evaluate(model, corpus, samples=samples) if corpus else None
    baselines = _baselines(model, corpus, evaluation)
    least, most = _extremes(model, corpus.documents if corpus else ())
    return _Findings(model, reason, run, moments, chosen, evaluation, baselines, least, most)


def _corpus(model: GPT) -> Corpus | None:
    """All strings of the training, where they are available."""
    try:
        documents = list(model.training_documents())
    except TapeGPTError:
        return None
    return Corpus(documents, model.vocabulary)


def _moments(model: GPT, text: str) -> int:
    weights = sum(model.config.heads(model.vocab_size)) * (len(model.vocabulary.split(text)) + 1) ** 2
    return max(LEAST, min(MOMENTS, NUMBERS // max(1, weights)))


def _record(model: GPT, corpus: Corpus | None, moments: int) -> tuple[Recording, str]:
    """The training repeated; or the model as it is, and why."""
    from tapegpt.training.recording import replay, still

    try:
        return replay(model, moments, corpus), ""
    except TapeGPTError as error:
        return still(model, corpus), str(error)


def _baselines(model: GPT, corpus: Corpus | None, evaluation: EvaluationReport | None) -> dict[str, float]:
    """Those of the evaluation; of strings with labels, or where nothing was held out, of some held out here."""
    from tapegpt.data.ngrams import baselines_within

    if evaluation and evaluation.comparison and not model.vocabulary.labels:
        return {name: loss for name, loss in evaluation.comparison.losses.items() if name != "model"}
    return baselines_within(corpus) if corpus else {}


def _extremes(model: GPT, documents: Sequence[str]) -> tuple[list[Score], list[Score]]:
    """The strings that surprise the model least, and most."""
    texts = list(dict.fromkeys(documents[:: -(-len(documents) // LOOKED_AT) or 1]))
    scores = model.score(texts)
    order = sorted(range(len(texts)), key=scores.nats.__getitem__)
    most = order[EXTREMES:][-EXTREMES:][::-1]
    return [scores[number] for number in order[:EXTREMES]], [scores[number] for number in most]


def _drawn(findings: _Findings) -> Data:
    """What the pictures are drawn from."""
    from tapegpt.web.data import score_data

    return {
        "run": {key: findings.run[key] for key in ("losses", "held_out", "graph")},
        "baselines": findings.baselines,
        "moments": findings.moments,
        "chosen": findings.chosen,
        "scores": [score_data(score) for score in (*findings.least, *findings.most)],
    }


# --- the page ---------------------------------------------------------------------------------------------------


def _sections(findings: _Findings) -> Iterator[tuple[str, list[str]]]:
    """Headings, and the lines below each."""
    several = len(findings.moments) > 1
    yield ("How it learned" if several else "What it generates"), list(_learning(findings))
    yield "What it computes", ['<div data-view="model"></div>']
    yield "How it reads", list(_read(findings))
    if findings.evaluation is not None:
        yield "What it has memorised", list(_memory(findings.evaluation))
    if findings.least:
        yield "What surprises it", list(_surprises(findings))
    yield ("How to reproduce it" if findings.model.state else "What it is"), list(_settings(findings))


def _summary(findings: _Findings) -> str:
    """The page in words."""
    model, evaluation = findings.model, findings.evaluation
    said = [f"It reads and writes strings of {amount(len(model.vocabulary), f'different {model.vocabulary.unit}')}."]
    if evaluation is not None and evaluation.training is not None:
        said.append(f"It has learned from {amount(evaluation.training, 'string')} in {amount(model.steps, 'step')}.")
    first, last = findings.moments[0]["loss"], findings.moments[-1]["loss"]
    if first is not None:
        said.append(f"Its loss went from {first:.2f} to {last:.2f} nats per token.")
    if findings.chosen < len(findings.moments) - 1:
        said.append(f"Its weights are those of step {findings.moments[findings.chosen]['step']:,}, the best.")
    comparison = evaluation.comparison if evaluation else None
    if comparison is not None:
        beside = compared({name: loss for name, loss in comparison.losses.items() if name != "model"})
        new = f"On {amount(comparison.strings, 'string')} that it had never seen, it is "
        said.append(f"{new}{comparison.losses['model']:.2f}; to compare, {beside}.")
    if evaluation is not None:
        memory = evaluation.memory
        said.append(f"Of {amount(memory.samples, 'generated string')}, {memory.copies:,} are in its training data.")
    return " ".join(said)


def _learning(findings: _Findings) -> Iterator[str]:
    moments = findings.moments
    if findings.reason:
        yield f"<p>This is the model as it is; {escape(findings.reason)}.</p>"
    if findings.run["losses"]["steps"]:
        yield '<div data-view="loss"></div>'
    yield '<div data-view="film"></div>'
    yield '<div class="pair"><div data-view="strings"></div><div data-view="embeddings"></div></div>'
    count = min(ROWS, len(moments))
    numbers = {round(index * (len(moments) - 1) / max(count - 1, 1)) for index in range(count)}
    rows = [
        (
            f"{moment['step']:,}",
            "" if moment["loss"] is None else f"{moment['loss']:.2f}",
            " ".join(_string(string["text"]) for string in moment["strings"][:STRINGS]),
        )
        for moment in (moments[number] for number in sorted(numbers))
    ]
    caption = f"The first of its strings at temperature {TEMPERATURE}, from the same random numbers at each step"
    yield table(caption, ("step", "loss", "strings"), rows, "wide")


def _read(findings: _Findings) -> Iterator[str]:
    explanation = findings.moments[findings.chosen]["explanation"]
    rows = []
    for t, target in enumerate(explanation["targets"]):
        expected = ", ".join(f"{_token(token)} {share:.0%}" for token, share in explanation["next"][t][:3])
        share, nats = explanation["target_p"][t], explanation["surprises"][t]
        before = _string(explanation["text"][:t]) if t else "the start"
        rows.append((before, expected, _token(target), f"{share:.1%}", f"{nats:.2f}"))
    heads = ("after", "expected", "next", "probability", "nats")
    yield f"<p>{_string(explanation['text'])} costs {explanation['loss']:.2f} nats per token.</p>"
    yield f'<div data-view="reading">{table("What it expects at each position", heads, rows)}</div>'


def _memory(evaluation: EvaluationReport) -> Iterator[str]:
    memory = evaluation.memory
    copies, lengths, characters = memory.copies, evaluation.lengths, evaluation.characters
    yield (
        f"<p>Of {amount(memory.samples, 'string')} at temperature {memory.temperature:g}, {copies:,} are training "
        f"strings ({copies / memory.samples:.1%}), and {memory.repeated:,} have come before. Lengths differ from those "
        f"of the data by {lengths.distance:.3f}, by chance it would be {lengths.chance:.3f}; characters by "
        f"{characters.distance:.3f}, by chance {characters.chance:.3f}.</p>"
    )
    columns = [memory.distances, *([memory.real] if memory.real else [])]
    heads = ("edits", "generated", *(["real and new"] if memory.real else []))
    rows = [
        (str(distance), *[f"{counts.get(distance, 0) / sum(counts.values()):.1%}" for counts in columns])
        for distance in sorted({distance for counts in columns for distance in counts})
    ]
    examples = [(_string(each.text), _string(each.nearest), str(each.distance)) for each in memory.examples]
    yield '<div class="pair">'
    yield table("Edits to the nearest training string", heads, rows)
    if examples:
        yield table("Generated, and nearest to a training string", ("generated", "nearest", "edits"), examples)
    yield "</div>"


def _surprises(findings: _Findings) -> Iterator[str]:
    ranks = findings.model.ranks
    if ranks:
        shares = [f"{ranks[round(percent / 100 * (len(ranks) - 1))]:.2f}" for percent in QUANTILES]
        yield table("Nats per token of its training strings", [f"{percent}%" for percent in QUANTILES], [shares])
    rows = [
        (_string(score.text), f"{score.nats:.2f}", f"{score.perplexity:.1f}")
        for score in (*findings.least, *findings.most)
    ]
    heads = ("string", "nats per token", "perplexity")
    yield f'<div data-view="scores">{table("Least and most surprising", heads, rows)}</div>'


def _settings(findings: _Findings) -> Iterator[str]:
    model = findings.model
    settings = model.state.settings.as_dict() if model.state else {}
    command, program = repeat(model)
    if command:
        yield f"<pre>{escape(command)}</pre>"
    if program:
        yield f"<pre>{escape(program)}</pre>"
    if settings and findings.reason:
        yield "<p>It could not be tested whether that gives the same model.</p>"
    elif settings and model.steps != settings["steps"]:
        yield f"<p>The training ended after {amount(model.steps, 'step')}.</p>"
    yield facts({"parameters": model.num_parameters, "tokens": model.vocab_size, **model.config.in_use(), **settings})


def _string(text: str) -> str:
    """A string as HTML: what has no look of its own as its number."""
    shown = "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in text) if text else "(empty)"
    return f'<bdi class="tg-string">{escape(shown)}</bdi>'


def _token(token: str) -> str:
    return _string(token or END)


# --- how to reproduce it -----------------------------------------------------------------------------------------


def repeat(model: GPT) -> tuple[str, str]:
    """The command and the Python that train a model like this one; "" where there is no such command, or neither.

    Files are called by their names alone, and strings that came from a program `strings` in the Python.
    """
    if model.state is None:
        return "", ""
    kind = type(model.config)
    fields = {
        "model": reference(kind),
        "tokens": model.vocabulary.rule,
        **model.config.as_dict(),
        **model.state.settings.as_dict(),
    }
    if fields["budget"] is not None:
        fields.pop("steps")
    source = _source(model)
    source = source.by_name() if source and source.again else None  # whoever gets the page has the data elsewhere
    return _command(kind, fields, source), _program(kind, fields, source)


def _source(model: GPT) -> Source | None:
    return Source(**model.data.source) if model.data and model.data.source else None


def _command(kind: type[Model], fields: Data, source: Source | None) -> str:
    from shlex import join

    if source is None:
        return ""
    presets = (None, *PRESETS) if fields["engine"] == "fast" else (None,)
    choices = [_beside(kind, fields, preset) for preset in presets if preset or fields["budget"] is None]
    chosen = min((choice for choice in choices if None not in choice.values()), key=len)
    if "budget" in chosen:
        chosen["budget"] = f"{chosen['budget']!r}s"
    own = {name: chosen.pop(name) for name in kind.fields if name in chosen and name not in Config.fields}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    options += [f"--set={name}={value}" for name, value in own.items()]
    reading = [word for words in source.options().values() for word in words]
    return join(["tapegpt", "train", *source.paths, *reading, *options, "-o", "model.safetensors"])


def _program(kind: type[Model], fields: Data, source: Source | None) -> str:
    preset = None if fields["budget"] is None else next(iter(PRESETS))  # which a budget would choose otherwise
    said = _beside(kind, fields, preset)
    data = "strings" if source is None else _data(source, said.pop("tokens", CHARACTERS))
    options = "".join(f", {name}={value!r}" for name, value in said.items())
    return f"model = tapegpt.train({data}{options})"


def _data(source: Source, tokens: str) -> str:
    """Training data in Python."""
    reading = {} if tokens == CHARACTERS else {"tokens": tokens}
    reading |= {name: value for name, value in source.as_dict().items() if value != getattr(Source, name)}
    reading.pop("paths", None)
    dataset = reading.pop("dataset", None)
    options = "".join(f", {name}={value!r}" for name, value in reading.items())
    if dataset is None:
        return f"tapegpt.Corpus.read({', '.join(map(repr, source.paths))}{options})"
    data = f"tapegpt.Corpus.dataset({dataset!r})"
    return f"tapegpt.Corpus.of({data}.documents{options})" if options else data


def _beside(kind: type[Model], fields: Data, preset: str | None) -> Data:
    """What has to be said of settings beside a preset; a budget is one too."""
    engine, budget = fields["engine"], fields["budget"]
    config, settings = resolve({"engine": engine, "budget": budget}, preset, model=kind)
    implied = "exact" if preset is None and budget is None else "fast"
    usual = {
        "model": reference(Config),
        "tokens": CHARACTERS,
        **config.as_dict(),
        **settings.as_dict(),
        "engine": implied,
        "budget": None,
    }
    said = {} if preset is None else {"preset": preset}
    return {**said, **{name: value for name, value in fields.items() if value != usual[name]}}
