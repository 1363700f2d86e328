"""A gated recurrent unit (Cho et al., 2014), PyTorch's without biases: what a row remembers of earlier ones.

    r, z = sigmoid(x_r + U_r h), sigmoid(x_z + U_z h);  n = tanh(x_n + r * U_n h);  h' = (1 - z) * n + z * h

x is the input's share of the gates, [x_r, x_z, x_n], from an ordinary product; h, the row before, is zero at the start
of a document. Shapes: x (T, 3 D), U (3 D, D), h (T, D).
"""

from __future__ import annotations

from tapegpt.machine.language import F32, I32, Builder, F64s, Reals, kernel
from tapegpt.operations.base import Batch, Operation, Scratch, Shape, Slot, padded
from tapegpt.operations.functions import sigmoid, tanh
from tapegpt.operations.linear import products, weight_gradient
from tapegpt.operations.products import make_panels
from tapegpt.operations.products import products as fast_products
from tapegpt.operations.rows import across, put_row
from tapegpt.operations.transpose import transpose
from tapegpt.value import Value as Scalar
from tapegpt.value import linear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.machine.language import Operand, Pointer
    from tapegpt.value import Matrix


class GRU(Operation):
    """`GRU()(x, U)`. Keeps of each row h, U h, the gates, and the gradient of U h."""

    name = "gru"
    takes: tuple[int, ...] = (2,)
    prepares = (1,)

    def shape(self, *inputs: Shape) -> Shape:
        x, u = inputs[:2]
        fits = x.rows is None and u.rows == x.columns == 3 * u.columns
        self.expect(fits, "needs x (T, 3 D) and U (3 D, D)", x, u)
        return Shape(None, u.columns)

    def reference(self, inner: dict[str, Matrix], *inputs: Matrix) -> Matrix:
        x, u = inputs
        d = len(u[0])
        h = [Scalar(0.0) for _ in range(d)]
        result: Matrix = []
        for row in x:
            product = linear(h, u)
            r, z = ([(row[i] + product[i]).sigmoid() for i in range(gate * d, gate * d + d)] for gate in (0, 1))
            n = [(row[2 * d + i] + r[i] * product[2 * d + i]).tanh() for i in range(d)]
            h = [(1 - z[i]) * n[i] + z[i] * h[i] for i in range(d)]
            result.append(h)
        return result

    def fast(self, batch: Batch) -> tuple[Operation, tuple[str, ...]]:
        if batch.cached:
            return CachedGRU(batch), ("positions", "lines")
        return PackedGRU(), ("positions",)

    def kept(self, positions: int, *inputs: Shape) -> int:
        x, u = inputs[:2]
        return positions * (padded(u.columns) + 3 * padded(x.columns))

    def prepared(self, *inputs: Shape) -> int:
        x, u = inputs[:2]
        return padded(u.columns) * padded(x.columns)

    def prepare(self, k: Builder, scratch: Scratch, *inputs: Slot) -> None:
        u = inputs[1]
        transpose(k, u.value, scratch.prepared, rows=u.rows, columns=u.columns)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        for t in k.range(out.start, out.stop):
            row = _Row(scratch.kept, out, inputs[0], t)
            self.recall(k, row, scratch, out, inputs)
            self.multiply(k, row, scratch.prepared)
            cell_forward(k, row.x, row.product, row.before, row.gates, row.h, columns=out.columns)

    def recall(self, k: Builder, row: _Row, scratch: Scratch, out: Slot, inputs: Sequence[Slot]) -> None:
        """Put down what the row before is."""
        exists = self.position(inputs, row.t) > 0
        put_row(k, out.value + k.maximum(row.t - 1, 0) * row.apart, row.before, exists, out.columns)

    def position(self, inputs: Sequence[Slot], t: Operand) -> Operand:
        """Where a row stands in its document."""
        return t

    def multiply(self, k: Builder, row: _Row, prepared: Pointer) -> None:
        """product = U h."""
        products(k, row.before, prepared, row.product, 0, 1, ins=row.columns, outs=3 * row.columns, fresh=True)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        """Through time, the last row first: what a row's product is given passes on to the row before."""
        x, u = inputs[:2]
        for t in k.range(k.integer(out.stop) - 1, k.integer(out.start) - 1, -1):
            row = _Row(scratch.kept, out, x, t)
            dh, dx = out.grad + t * row.apart, row.dproduct if x.gradient is None else x.gradient + t * row.wide
            places = (row.product, row.before, row.gates, dh, dx, row.dproduct)
            cell_backward(k, *places, columns=out.columns, wanted=x.gradient is not None, fresh=x.fresh)
            for _ in k.when(self.position(inputs, t) > 0):
                self.pass_back(k, row, u.value, dh, out.grad + (t - 1) * row.apart)
        if u.gradient is not None:
            self.differentiate(k, _Row(scratch.kept, out, x, k.integer(0)), u, out)

    def pass_back(self, k: Builder, row: _Row, u: Pointer, dh: Pointer, dbefore: Pointer) -> None:
        """The gradient of the row before, from that of this one and that of the product."""
        pass_back(k, u, row.gates, dh, row.dproduct, dbefore, columns=row.columns)

    def differentiate(self, k: Builder, first: _Row, u: Slot, out: Slot) -> None:
        """dU from all rows."""
        sizes = {"ins": out.columns, "outs": 3 * out.columns, "fresh": u.fresh}
        weight_gradient(k, first.before, first.dproduct, u.grad, out.start, out.stop, **sizes)


class _Row:
    """Where the numbers of row t lie."""

    def __init__(self, kept: Pointer, out: Slot, x: Slot, t: Operand) -> None:
        self.t, self.columns = t, out.columns
        self.apart, self.wide = padded(out.columns), padded(x.columns)
        self.x, self.h = x.value + t * self.wide, out.value + t * self.apart
        self.before = kept + t * self.apart
        wide = kept + out.rows * self.apart
        self.product, self.gates, self.dproduct = (wide + (i * out.rows + t) * self.wide for i in range(3))


@kernel
def cell_forward(k: Builder, x: Reals, product: Reals, before: Reals, gates: Reals, h: Reals, *, columns: int) -> None:
    """One row: the gates, and h' = (1 - z) * n + z * h."""
    for c, lanes in across(k, columns, x.type):
        places = [gate * columns + c for gate in range(3)]
        x_r, x_z, x_n = (x.vector(place, lanes) for place in places)
        u_r, u_z, u_n = (product.vector(place, lanes) for place in places)
        r, z = sigmoid(k, x_r + u_r), sigmoid(k, x_z + u_z)
        n = tanh(k, x_n + r * u_n)
        for place, gate in zip(places, (r, z, n), strict=True):
            gates.store(place, gate)
        h.store(c, (1.0 - z) * n + z * before.vector(c, lanes))


@kernel
def cell_backward(
    k: Builder,
    product: Reals,
    before: Reals,
    gates: Reals,
    dh: Reals,
    dx: Reals,
    dproduct: Reals,
    *,
    columns: int,
    wanted: bool,
    fresh: bool,
) -> None:
    """One row: dx = or += that of what is in the sigmoids and tanh; dproduct is the same, but for n times r."""
    for c, lanes in across(k, columns, dh.type):
        places = [gate * columns + c for gate in range(3)]
        r, z, n = (gates.vector(place, lanes) for place in places)
        passed = dh.vector(c, lanes)
        dz = before.vector(c, lanes) * passed - n * passed
        dn = (1.0 - n * n) * ((1.0 - z) * passed)
        dr = product.vector(places[2], lanes) * dn
        sums = (r * (1.0 - r) * dr, z * (1.0 - z) * dz, dn)
        for place, given in zip(places, sums, strict=True):
            if wanted:
                dx.store(place, given if fresh else dx.vector(place, lanes) + given)
            dproduct.store(place, given if given is not dn else r * dn)


@kernel
def pass_back(k: Builder, u: F64s, gates: F64s, dh: F64s, dproduct: F64s, dbefore: F64s, *, columns: int) -> None:
    """dbefore += z * dh and dproduct U; column by column of this row, the last first: z * dh, then n, r and z of U."""
    width, row = k.width(), padded(columns)
    for c in k.range(0, row, width):
        total = k.variable(dbefore.vector(c, width))
        lane = k.lane_numbers(width)
        for j in k.range(columns - 1, -1, -1):
            own = k.spread(gates[columns + j] * dh[j], width)
            total += k.select(lane.equals(k.convert(j - c, I32)), own, 0.0)
            for gate in (2, 0, 1):
                at = gate * columns + j
                total += u.vector(at * row + c, width) * dproduct[at]
        dbefore.store(c, total)


# --- f32 ------------------------------------------------------------------------------------------------------------


class PackedGRU(GRU):
    """`PackedGRU()(x, U, positions)` in f32, for documents one after the other."""

    real = F32
    takes = (3,)
    clears = (1,)

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return (0, 0, 1 << 32)[place]

    def prepare(self, k: Builder, scratch: Scratch, *inputs: Slot) -> None:
        u = inputs[1]
        make_panels(k, u.value, scratch.prepared, u.rows, outs=u.rows, ins=u.columns, stride=padded(u.columns))

    def position(self, inputs: Sequence[Slot], t: Operand) -> Operand:
        return inputs[2].value[t]

    def multiply(self, k: Builder, row: _Row, prepared: Pointer) -> None:
        sizes = {"x_row": row.apart, "x_step": 1, "w_step": 0, "y_row": row.wide, "columns": 3 * row.columns}
        fast_products(k, row.before, prepared, row.product, prepared, prepared, 1, row.columns, **sizes, fixed_rows=1)

    def pass_back(self, k: Builder, row: _Row, u: Pointer, dh: Pointer, dbefore: Pointer) -> None:
        keep(k, row.gates, dh, dbefore, columns=row.columns)
        sizes = {"x_row": row.wide, "x_step": 1, "w_step": row.apart, "y_row": row.apart, "columns": row.columns}
        places = (row.dproduct, u, dbefore, u, u)
        fast_products(k, *places, 1, 3 * row.columns, **sizes, finish="+ y", fixed_rows=1)

    def differentiate(self, k: Builder, first: _Row, u: Slot, out: Slot) -> None:
        row, wide = first.apart, first.wide
        sizes = {"x_row": 1, "x_step": wide, "w_step": row, "y_row": row, "columns": out.columns}
        places = (first.dproduct, first.before, u.grad, u.value, u.value)
        fast_products(k, *places, 3 * out.columns, out.stop, **sizes, finish="+ y", fixed_rows=3 * out.columns)


@kernel
def keep(k: Builder, gates: Reals, dh: Reals, dbefore: Reals, *, columns: int) -> None:
    """dbefore += z * dh."""
    for c, lanes in across(k, columns, dh.type):
        kept = gates.vector(columns + c, lanes) * dh.vector(c, lanes)
        dbefore.store(c, dbefore.vector(c, lanes) + kept)


class CachedGRU(PackedGRU):
    """`CachedGRU(batch)(x, U, positions, lines)`: keeps the last row of each string."""

    takes = (4,)

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def index_bound(self, place: int, *inputs: Shape) -> int:
        return (0, 0, self._batch.block_size, self._batch.rows)[place]

    def kept(self, positions: int, *inputs: Shape) -> int:
        return super().kept(positions, *inputs) + self._batch.rows * padded(inputs[1].columns)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        super().forward(k, scratch, out, *inputs)
        for t in k.range(out.start, out.stop):
            row = out.value + t * padded(out.columns)
            put_row(k, row, self._line(scratch, out, inputs, t), t >= 0, out.columns)

    def recall(self, k: Builder, row: _Row, scratch: Scratch, out: Slot, inputs: Sequence[Slot]) -> None:
        exists = self.position(inputs, row.t) > 0
        put_row(k, self._line(scratch, out, inputs, row.t), row.before, exists, out.columns)

    def _line(self, scratch: Scratch, out: Slot, inputs: Sequence[Slot], t: Operand) -> Pointer:
        lines = scratch.kept + super().kept(out.rows, *[slot.shape for slot in inputs])
        return lines + inputs[3].value[t] * padded(out.columns)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, *inputs: Slot) -> None:
        raise AssertionError("strings are not generated backwards")
