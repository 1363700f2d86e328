"""Strings that are the same on every CPU.

Sums in f32 are grouped by the width of vectors, so that a string may differ where a random number comes close to where
it would draw another token. Such a string, about one in a hundred, is read in f64 by the exact engine's operations,
whose bits depend on no vector unit, and drawn again from there. What is left is the C library's last bit, which decides
about one string in a billion. Not here: strings in f32 (`drawing.py`).
"""

from __future__ import annotations

from functools import cached_property

from tapegpt.data.windows import window_start
from tapegpt.engines.graph import exact_graph
from tapegpt.inference.choice import Choice, log_sum, random_unit
from tapegpt.inference.forward import Inference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from tapegpt.engines.graph import Graph
    from tapegpt.inference.constraints import Drawing
    from tapegpt.inference.forward import Drawn, Rules
    from tapegpt.inference.language_model import LanguageModel

MARGIN = 2.0**-15  # of a random number at temperature 1: 60 times what was seen to differ, on five models


class Certain(Inference):
    """Draws as another `Inference` does, with the mean of models, one or several, in f64 where it is in doubt."""

    def __init__(self, inference: Inference, models: Sequence[LanguageModel]) -> None:
        self.config, self.vocab_size = inference.config, inference.vocab_size
        self._inference, self._models = inference, models

    @property
    def work(self) -> int:
        """As the other's."""
        return self._inference.work

    def draw(self, streams: array[int], drawing: Drawing, rules: Rules, margin: float = MARGIN) -> Drawn:
        """As `Inference` does."""
        within = 2.0 if drawing.truncates else margin / min(drawing.temperature, 1.0)
        drawn = self._inference.draw(streams, drawing, rules, within)
        strings, room = drawn.strings, max(rules.most, self.config.block_size)
        for number, is_in_doubt in enumerate(drawn.doubts):
            if is_in_doubt:
                tokens = self._draw_again(strings[number], streams[2 * number : 2 * number + 2], drawing, rules)
                strings.lengths[number] = len(tokens)
                for position, token in enumerate(tokens, number * room):
                    strings.ids[position] = token
        return drawn

    def _draw_again(self, tokens: list[int], stream: Sequence[int], drawing: Drawing, rules: Rules) -> list[int]:
        """The tokens of a stream, given what they probably are."""
        bos, state, position = self.vocab_size - 1, rules.start, 0
        longest = max(rules.most, self.config.block_size)
        while position < longest:
            for logs in self._logs([bos, *tokens][:longest], position):
                choice = Choice(logs, state, position, drawing, rules)
                token = choice.token(random_unit(stream[0], stream[1], position))
                if token == bos:
                    return tokens[:position]
                state, position = choice.after(token), position + 1
                if tokens[position - 1 : position] != [token]:
                    tokens = [*tokens[: position - 1], token]
                    break
        return tokens

    def _logs(self, tokens: list[int], number: int) -> list[list[float]]:
        """log p of each token behind each of these from `number` on, as far as windows reach, but for a constant."""
        rows = []
        for graph in self._graphs:
            start = window_start(number, graph.block_size)
            window = tokens[start : start + graph.block_size]
            graph.tape.write(graph.about("tokens"), window)
            graph.tape.write(graph.about("positions"), range(len(window)))
            rows.append(graph.tape.forward(graph.logits, len(window))[number - start :])
        return rows[0] if len(rows) == 1 else [_mean(each) for each in zip(*rows, strict=False)]

    @cached_property
    def _graphs(self) -> list[Graph]:
        graphs = []
        for model in self._models:
            graph = exact_graph(model.config, model.vocab_size)
            graph.places.write(graph.tape.arena, model.parameters)
            graphs.append(graph)
        return graphs


def _mean(rows: Sequence[list[float]]) -> list[float]:
    """log p by the mean of probabilities, of which rows of logits tell."""
    sums = list(map(log_sum, rows))
    return [
        log_sum([logit - total for logit, total in zip(each, sums, strict=True)]) for each in zip(*rows, strict=True)
    ]
