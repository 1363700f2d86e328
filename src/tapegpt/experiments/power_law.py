"""A scaling law: the loss as a function of how much there is of each resource, fitted to losses that were measured.

    loss = E + ((A / N^a)^q + (B / D^b)^q + (C / S^c)^q)^(1 / q)

With sharpness q = 1 it is the law of Hoffmann et al. (2022), a sum. The greater q, the more the scarcest resource alone
decides, as in that of Kaplan et al. (2020): twice the data is then of no use to a model that is too small for them.
Not here: what is measured (`scaling.py`).
"""

from __future__ import annotations

import math
from itertools import accumulate

from tapegpt.data.rng import Random
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Vector = list[float]
    Point = Sequence[float]

ITERATIONS = 200
SETTLED = 1e-4  # change of the sum of squares below which it is the lowest
LONGEST = 1.0  # step of a logarithm
STUCK = 1e9  # damping from which on no step leads down
NOISE = 0.01  # relative, that the fit begins with
LEAST_NOISE = 1e-6
HALVING = 2.0  # doublings after which a point counts half
ROBUST = 2.0  # deviations from which on a residual counts in proportion, no longer squared (Huber, 1964)
SHARE = 0.9  # of the draws that lie within an interval

# What is known of any such law: means and standard deviations of logarithms, wide, so that what losses cannot tell
# (the exponent of a resource that hardly matters) stays finite, and has its wide interval.
FLOOR = (math.log(0.7), 0.7)  # of E, as a share of the lowest loss
TERM = (math.log(0.1), 3.0)  # of A / N^a at the largest N, likewise
EXPONENT = (math.log(0.5), 0.7)
SHARPNESS = (math.log(2.0), 0.7)


class Law(Record):
    """The loss by the amounts of some resources: see above. Losses are in nats per token."""

    floor: float  # E: the limit for unlimited data, size and time
    coefficients: tuple[float, ...]  # A, B, C
    exponents: tuple[float, ...]  # a, b, c
    sharpness: float  # q

    def loss(self, amounts: Point) -> float:
        """With these amounts, which may be infinite."""
        terms = [
            0.0 if amount == math.inf else coefficient / amount**exponent
            for amount, coefficient, exponent in zip(amounts, self.coefficients, self.exponents, strict=True)
        ]
        return self.floor + _together(terms, self.sharpness)


def _together(terms: Sequence[float], sharpness: float) -> float:
    largest = max(terms)  # taken out, so that no power overflows
    if not largest:
        return 0.0
    total: float = sum((term / largest) ** sharpness for term in terms)
    return largest * math.pow(total, 1 / sharpness)


def fit(points: Sequence[Point], losses: Sequence[float], near: Point | None = None) -> Law:
    """The law of what was measured: amounts, and the loss of each; relative residuals are what is made small.

    No law holds from end to end: where it is to hold best is `near`, and the farther a point lies from there, the less
    it counts. By the method of Levenberg and Marquardt, with Huber's loss, whose scale is that of the residuals.
    """
    return _Fit(points, losses, near).law()


def bootstrap(
    points: Sequence[Point], losses: Sequence[float], draws: int, seed: int, near: Point | None = None
) -> list[Law]:
    """So many laws of points drawn with replacement, each with all its losses: how uncertain it is (Efron, 1979).

    Points, since the law itself is off by more than seeds are; as many as there are degrees of freedom, so that
    intervals are not too narrow for what the unknowns took. What is known beforehand is drawn too, within its
    deviations: where it decides, nothing was measured.
    """
    whole = _Fit(points, losses, near)
    start, noise = whole.solution, whole.noise
    nearness, rng, count = whole.weights, Random(seed), len(whole.measured)
    effective = sum(nearness) ** 2 / sum(weight**2 for weight in nearness)
    drawn = max(round(count * (1 - len(start) / effective)), count // 2)
    laws = []
    for _ in range(draws):
        weights = [0.0] * count
        for _ in range(drawn):
            place = rng.randrange(count)
            weights[place] += nearness[place]
        laws.append(whole.again(weights, start, noise, rng))
    return laws


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Within which the share of 90 % in the middle lies."""
    ordered = sorted(values)
    outside = round((1 - SHARE) / 2 * (len(ordered) - 1))
    return ordered[outside], ordered[-1 - outside]


def deviation(law: Law, points: Sequence[Point], losses: Sequence[float], near: Point | None = None) -> float:
    """The relative standard deviation of losses from a law fitted to them; by their median, which outliers leave."""
    weights = [1.0] * len(points) if near is None else _nearness(points, near)
    apart = [abs(math.log(loss / law.loss(point))) for point, loss in zip(points, losses, strict=True)]
    ordered = sorted(zip(apart, weights, strict=True))
    sums = accumulate(weight for _, weight in ordered)
    median = next((size for (size, _), passed in zip(ordered, sums, strict=True) if passed > len(points) / 2), 0.0)
    unknowns = 2 * len(law.exponents) + 2
    return 1.4826 * median * math.sqrt(len(points) / max(len(points) - unknowns, 1))


def _nearness(points: Sequence[Point], near: Point) -> Vector:
    """Weights: halved by every two doublings that lie between, of whichever amount; their mean is 1."""
    apart = [sum(abs(math.log2(amount / there)) for amount, there in zip(point, near, strict=True)) for point in points]
    weights = [2 ** (-doublings / HALVING) for doublings in apart]
    return [weight * len(weights) / sum(weights) for weight in weights]


class _Fit:
    """The search for the law. Unknowns are logarithms: of E, of each term at the largest amounts, exponents and q."""

    def __init__(self, points: Sequence[Point], losses: Sequence[float], near: Point | None) -> None:
        self._largest = [max(amounts) for amounts in zip(*points, strict=True)]
        at: dict[Point, Vector] = {}  # logarithms of the losses
        for point, loss in zip(map(tuple, points), losses, strict=True):
            at.setdefault(point, []).append(math.log(loss))
        self.measured = [
            ([math.log(amount / most) for amount, most in zip(point, self._largest, strict=True)], found)
            for point, found in at.items()
        ]
        self._axes, lowest = len(self._largest), math.log(min(losses))
        known = [FLOOR, *[TERM] * self._axes, *[EXPONENT] * self._axes, SHARPNESS]
        scaled = 1 + self._axes  # unknowns that are shares of the lowest loss
        self._known = [
            (mean + (lowest if place < scaled else 0.0), deviation) for place, (mean, deviation) in enumerate(known)
        ]
        self.weights = [1.0] * len(at) if near is None else _nearness(list(at), near)
        self.noise = NOISE
        self.solution = [mean for mean, _ in self._known]
        for _ in range(20):  # the noise by the residuals, the residuals by the noise
            self._descend()
            former, self.noise = self.noise, max(deviation(self.law(), points, losses, near), LEAST_NOISE)
            if abs(self.noise / former - 1) < 0.01:
                break

    def law(self) -> Law:
        """As far as it has come."""
        axes, unknown = self._axes, self.solution
        exponents = [math.exp(each) for each in unknown[1 + axes : 1 + 2 * axes]]
        terms = zip(unknown[1 : 1 + axes], exponents, self._largest, strict=True)
        coefficients = [math.exp(term) * most**exponent for term, exponent, most in terms]
        return Law(math.exp(unknown[0]), tuple(coefficients), tuple(exponents), math.exp(unknown[-1]))

    def again(self, weights: Vector, start: Vector, noise: float, rng: Random) -> Law:
        """With other weights of the points, and what is known drawn anew."""
        known = self._known
        self.weights, self.solution, self.noise = weights, start, noise
        self._known = [(rng.gauss(mean, deviation), deviation) for mean, deviation in known]
        self._descend()
        self._known = known
        return self.law()

    def _descend(self) -> None:
        damping, cost = 1e-2, self._cost(self.solution)
        for _ in range(ITERATIONS):
            matrix, gradient = self._normal()
            new, new_cost = self._step(matrix, gradient, damping)
            while new_cost > cost:
                damping *= 5
                if damping > STUCK:
                    return
                new, new_cost = self._step(matrix, gradient, damping)
            damping /= 5
            self.solution, gain, cost = new, cost - new_cost, new_cost
            if gain < SETTLED * (1 + cost):
                return

    def _step(self, matrix: list[Vector], gradient: Vector, damping: float) -> tuple[Vector, float]:
        damped = [[*row[:i], row[i] * (1 + damping), *row[i + 1 :]] for i, row in enumerate(matrix)]
        step = _solve(damped, gradient)
        new = [x - max(-LONGEST, min(LONGEST, dx)) for x, dx in zip(self.solution, step, strict=True)]
        return new, self._cost(new)

    def _loss(self, unknown: Vector, place: Vector) -> tuple[float, float, Vector]:
        """(logarithm of the loss, what stands above E, the terms)."""
        axes = self._axes
        terms = [math.exp(unknown[1 + i] - math.exp(unknown[1 + axes + i]) * place[i]) for i in range(axes)]
        above = _together(terms, math.exp(unknown[-1]))
        return math.log(math.exp(unknown[0]) + above), above, terms

    def _cost(self, unknown: Vector) -> float:
        """Half the sum of squares that is to be made small, what is known beforehand included."""
        total = 0.0
        for weight, (place, found) in zip(self.weights, self.measured, strict=True):
            predicted = self._loss(unknown, place)[0] if weight else 0.0
            for loss in found if weight else ():
                size = abs(predicted - loss) / self.noise
                total += weight * (size * size / 2 if size < ROBUST else ROBUST * (size - ROBUST / 2))
        return total + sum(
            ((x - mean) / deviation) ** 2 / 2 for x, (mean, deviation) in zip(unknown, self._known, strict=True)
        )

    def _normal(self) -> tuple[list[Vector], Vector]:
        """The normal equations at the solution so far: matrix and gradient."""
        count = len(self.solution)
        matrix = [[0.0] * count for _ in range(count)]
        gradient = [(x - mean) / deviation**2 for x, (mean, deviation) in zip(self.solution, self._known, strict=True)]
        for i, (_, deviation) in enumerate(self._known):
            matrix[i][i] = 1 / deviation**2
        for drawn, (place, found) in zip(self.weights, self.measured, strict=True):
            if not drawn:
                continue
            predicted, derivatives = self._linear(place)
            weight = pull = 0.0
            for loss in found:
                size = abs(predicted - loss) / self.noise
                each = drawn * min(1.0, ROBUST / max(size, 1e-9)) / self.noise**2
                weight += each
                pull += each * (predicted - loss)
            for i, derivative in enumerate(derivatives):
                gradient[i] += pull * derivative
                part, row = weight * derivative, matrix[i]
                for j in range(i + 1):
                    row[j] += part * derivatives[j]
        for i in range(count):
            for j in range(i):
                matrix[j][i] = matrix[i][j]
        return matrix, gradient

    def _linear(self, place: Vector) -> tuple[float, Vector]:
        """The logarithm of the loss at a point, and its derivatives by the unknowns."""
        unknown, axes = self.solution, self._axes
        predicted, above, terms = self._loss(unknown, place)
        total, q = math.exp(predicted), math.exp(unknown[-1])
        shares = [(term / above) ** q for term in terms]  # they sum to 1
        by_term = [above * share / total for share in shares]
        by_exponent = [-each * math.exp(unknown[1 + axes + i]) * place[i] for i, each in enumerate(by_term)]
        entropy = -sum(share * math.log(share) for share in shares if share)
        return predicted, [math.exp(unknown[0]) / total, *by_term, *by_exponent, -above / total * entropy / q]


def _solve(matrix: list[Vector], right: Vector) -> Vector:
    """x of matrix x = right, for a matrix that is positive definite: by Gauss, without exchanging rows."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            for k in range(i, size + 1):
                row[k] -= factor * pivot[k]
    x = [0.0] * size
    for i in range(size - 1, -1, -1):
        x[i] = (rows[i][size] - math.fsum(rows[i][k] * x[k] for k in range(i + 1, size))) / rows[i][i]
    return x
