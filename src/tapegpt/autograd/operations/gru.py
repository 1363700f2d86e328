"""A gated recurrent unit (Cho et al., 2014), PyTorch's without biases: what a row remembers of earlier ones.

    r, z = sigmoid(x_r + U_r h), sigmoid(x_z + U_z h);  n = tanh(x_n + r * U_n h);  h' = (1 - z) * n + z * h

x is the input's share of the gates, [x_r, x_z, x_n], from an ordinary product; h, the row before, is zero at the start
of a document. Shapes: x (T, 3 D), U (3 D, D), h (T, D).
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, View, in_f32, padded, row_stride
from tapegpt.autograd.operations.functions import sigmoid, tanh
from tapegpt.autograd.operations.products import Finish, Panels, fast_products, make_panels, products
from tapegpt.autograd.operations.rows import accumulate, across, position_of, put_row
from tapegpt.autograd.operations.transpose import transpose
from tapegpt.autograd.value import Matrix, linear
from tapegpt.autograd.value import Value as Scalar
from tapegpt.machine.language import F32, I32, Builder, Number, Pointer, kernel
from tapegpt.record import Record


class Rows(Record):
    """What belongs to the rows, or to one row: x, h, the row before, U h, the gates and the gradient of U h."""

    x: View
    h: View
    before: View
    product: View
    gates: View
    dproduct: View

    def row(self, t: Number) -> Rows:
        """What belongs to row t."""
        return Rows(*[each.at(t).replace(rows=1) for each in self.as_dict().values()])


class GRU(Operation):
    """`GRU()(x, U)`. Keeps of each row h, U h, the gates, and the gradient of U h."""

    name = "gru"
    takes = (2,)
    prepares = (1,)

    def shape(self, x: Shape, u: Shape, *about: Shape) -> Shape:
        fits = x.rows is None and u.rows == x.columns == 3 * u.columns
        self.expect(fits, "needs x (T, 3 D) and U (3 D, D)", x, u)
        return Shape(None, u.columns)

    def reference(self, inner: dict[str, Matrix], x: Matrix, u: Matrix) -> Matrix:
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

    def kept_size(self, positions: int, x: Shape, u: Shape, *about: Shape) -> int:
        cache = self.batch.lines * self.batch.block_size * row_stride(u.columns)
        return self._rows_size(positions, x.columns, u.columns) + cache

    def _rows_size(self, positions: int, wide: int, columns: int) -> int:
        return positions * (row_stride(columns) + 3 * row_stride(wide))

    def prepared_size(self, x: Shape, u: Shape, *about: Shape) -> int:
        return padded(u.columns) * row_stride(x.columns)

    def prepare(self, k: Builder, scratch: Scratch, x: Slot, u: Slot, *about: Slot) -> None:
        """U^T."""
        transpose(k, u.value, scratch.prepared, rows=u.rows, columns=u.columns)

    def rows(self, scratch: Scratch, out: Slot, x: Slot) -> Rows:
        """The views of all that belongs to the rows."""
        wide = scratch.kept + out.rows * row_stride(out.columns)
        products = [x.whole(wide + i * out.rows * row_stride(x.columns)) for i in range(3)]
        return Rows(x.whole(x.value), out.whole(out.value), out.whole(scratch.kept), *products)

    def forward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, u: Slot, *about: Slot) -> None:
        """Row by row, from the row before: that of the result, or what is kept of its string."""
        rows, cache = self.rows(scratch, out, x), scratch.kept + self._rows_size(out.rows, x.columns, u.columns)
        for t in k.range(out.start, out.stop):
            row, position = rows.row(t), position_of(t, *about[:1])
            if self.batch.cached:
                own, at = out.whole(cache).at(about[1].value[t] * self.batch.block_size), position
            else:
                own, at = rows.h, t
            put_row(k, own.at(k.maximum(at - 1, 0)).start, row.before.start, position > 0, out.columns)
            self.multiply(k, row, scratch.prepared)
            cell_forward(k, row)
            if self.batch.cached:
                put_row(k, row.h.start, own.at(at).start, t >= 0, out.columns)

    def multiply(self, k: Builder, row: Rows, prepared: Pointer) -> None:
        """product = U h."""
        wide = row.product
        products(k, row.before, View(prepared, row.h.columns, wide.columns, wide.stride), wide, fresh=True)

    def backward(self, k: Builder, scratch: Scratch, out: Slot, x: Slot, u: Slot, *about: Slot) -> None:
        """Backpropagation through time, the last row first."""
        rows, dh = self.rows(scratch, out, x), out.whole(out.grad)
        for t in k.range(out.stop - 1, out.start - 1, -1):
            row, dh_t = rows.row(t), dh.at(t).start
            dx = None if x.gradient is None else x.whole(x.gradient).at(t).start
            cell_backward(k, row, dh_t, dx, fresh=x.fresh)
            for _ in k.when(position_of(t, *about[:1]) > 0):
                self.pass_back(k, row, u.view(u.value), dh_t, dh.at(t - 1))
        if u.gradient is not None:
            self.differentiate(k, x.view(rows.dproduct.start).T, out.view(rows.before.start), u)

    def pass_back(self, k: Builder, row: Rows, u: View, dh: Pointer, dbefore: View) -> None:
        """The gradient of the row before, from that of this one and that of the product."""
        pass_back(k, row, u.start, dh, dbefore.start)

    def differentiate(self, k: Builder, dproduct: View, before: View, u: Slot) -> None:
        """dU from all rows."""
        products(k, dproduct, before, u.view(u.grad), fresh=u.fresh, reverse=True)


@kernel
def cell_forward(k: Builder, row: Rows) -> None:
    """One row: the gates, and h' = (1 - z) * n + z * h."""
    columns = row.h.columns
    for c, lanes in across(k, columns, row.h.start.type):
        starts = [gate * columns + c for gate in range(3)]
        x_r, x_z, x_n = (row.x.vector(0, start, lanes) for start in starts)
        u_r, u_z, u_n = (row.product.vector(0, start, lanes) for start in starts)
        r, z = sigmoid(k, x_r + u_r), sigmoid(k, x_z + u_z)
        n = tanh(k, x_n + r * u_n)
        for start, gate in zip(starts, (r, z, n), strict=True):
            row.gates.store(0, start, gate)
        row.h.store(0, c, (1.0 - z) * n + z * row.before.vector(0, c, lanes))


@kernel
def cell_backward(k: Builder, row: Rows, dh: Pointer, dx: Pointer | None, *, fresh: bool) -> None:
    """One row: dx = or += that of what is in the sigmoids and tanh; dproduct is the same, but for n times r."""
    columns = row.h.columns
    for c, lanes in across(k, columns, dh.type):
        starts = [gate * columns + c for gate in range(3)]
        r, z, n = (row.gates.vector(0, start, lanes) for start in starts)
        dh_c = dh.vector(c, lanes)
        # h' = (1 - z) * n + z * before
        dz = row.before.vector(0, c, lanes) * dh_c - n * dh_c
        dn = (1.0 - n * n) * ((1.0 - z) * dh_c)
        # n = tanh(x_n + r * u_n)
        dr = row.product.vector(0, starts[2], lanes) * dn
        # r = sigmoid(x_r + u_r), z = sigmoid(x_z + u_z)
        sums = (r * (1.0 - r) * dr, z * (1.0 - z) * dz, dn)
        for start, given in zip(starts, sums, strict=True):
            if dx is not None:
                accumulate(dx, start, given, fresh=fresh)
            row.dproduct.store(0, start, given if given is not dn else r * dn)


@kernel
def pass_back(k: Builder, row: Rows, u: Pointer, dh: Pointer, dbefore: Pointer) -> None:
    """dbefore += z * dh and dproduct U; column by column of this row, the last first: z * dh, then n, r and z of U."""
    width, columns = k.width(), row.h.columns
    for c in k.range(0, padded(columns), width):
        total = k.variable(dbefore.vector(c, width))
        lane = k.lane_numbers(width)
        for j in k.range(columns - 1, -1, -1):
            own = k.spread(row.gates.start[columns + j] * dh[j], width)
            total += k.select(lane.equals(k.convert(j - c, I32)), own, 0.0)
            for gate in (2, 0, 1):
                at = gate * columns + j
                total += u.vector(at * row_stride(columns) + c, width) * row.dproduct.start[at]
        dbefore.store(c, total)


# --- f32 ------------------------------------------------------------------------------------------------------------


@in_f32(GRU)
class FastGRU(GRU):
    """The same in f32, for documents one after the other, or the next row of strings."""

    about_rows = ("positions",)
    keeps_rows = True
    clears = (1,)

    def prepare(self, k: Builder, scratch: Scratch, x: Slot, u: Slot, *about: Slot) -> None:
        """U^T in panels."""
        make_panels(k, u.view(u.value), scratch.prepared, outs=u.rows)

    def multiply(self, k: Builder, row: Rows, prepared: Pointer) -> None:
        fast_products(k, row.before, Panels(prepared, row.h.columns), row.product, Finish())

    def pass_back(self, k: Builder, row: Rows, u: View, dh: Pointer, dbefore: View) -> None:
        keep(k, row, dh, dbefore.start)
        fast_products(k, row.dproduct, u, dbefore.replace(rows=1), Finish("+"))

    def differentiate(self, k: Builder, dproduct: View, before: View, u: Slot) -> None:
        fast_products(k, dproduct, before, u.view(u.grad), Finish("+"))


@kernel
def keep(k: Builder, row: Rows, dh: Pointer, dbefore: Pointer) -> None:
    """dbefore += z * dh."""
    columns = row.h.columns
    for c, lanes in across(k, columns, F32):
        z = row.gates.vector(0, columns + c, lanes)
        accumulate(dbefore, c, z * dh.vector(c, lanes), fresh=False)
