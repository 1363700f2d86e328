"""Where the parameters of `Config.shapes` lie in a tape's shared memory, and how they get in and out.

Adam's moments lie alike, `start` numbers after the begin of their memory.
"""

from __future__ import annotations

from array import array

from tapegpt.operations.base import padded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.engine import Parameters
    from tapegpt.fast.graph import FastGraph
    from tapegpt.machine.memory import Memory


def lines(graph: FastGraph, memory: Memory, start: int, name: str) -> list[tuple[memoryview[float], list[int] | None]]:
    """A parameter's numbers in order: lines of memory, and the places in each, None for all of it."""
    node, rows, columns = graph.cells(name)
    first = start + node.value
    width = node.shape.columns
    apart = padded(width)
    solid = columns == list(range(width))
    if solid and apart == width and rows == list(range(rows[0], rows[0] + len(rows))):
        return [(memory.floats(4 * (first + rows[0] * width), len(rows) * width, 4), None)]
    found = [memory.floats(4 * (first + row * apart), width, 4) for row in rows]
    return [(line, None if solid else columns) for line in found]


def load(graph: FastGraph, memory: Memory, parameters: Parameters, start: int = 0) -> None:
    """Write all parameters, rounded to f32; zeros for the embeddings of runs if they are left out."""
    for name, (rows, columns) in graph.config.shapes(graph.vocab_size).items():
        left_out = name == "wte_gram" and name not in parameters
        numbers = array("f", bytes(4 * rows * columns) if left_out else parameters[name])
        taken = 0
        for line, places in lines(graph, memory, start, name):
            stop = taken + len(line if places is None else places)
            if places is None:
                line[:] = memoryview(numbers)[taken:stop]
            else:
                for place, number in zip(places, numbers[taken:stop], strict=True):
                    line[place] = number
            taken = stop


def read(graph: FastGraph, memory: Memory, start: int = 0) -> Parameters:
    """A copy of all parameters."""
    result = {}
    for name in graph.config.shapes(graph.vocab_size):
        values = array("d")
        for line, places in lines(graph, memory, start, name):
            values.extend(line if places is None else [line[place] for place in places])
        result[name] = values
    return result
