"""Adam in f32 with decoupled weight decay (Kingma and Ba, 2015; Loshchilov and Hutter, 2019), and its schedule."""

from __future__ import annotations

from tapegpt.machine.language import F32, F64, Builder, F32s, F64s, Int, Operand, Pointer, Real, Value, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.engine import Adam

SMALLEST = 1e-36  # keeps the root of zero a number
STATE = ("beta1 ** step", "beta2 ** step")  # as f64
RATE, BETA1, BETA2, EPSILON, DECAY, WARMUP, STEPS, CLIP = range(8)  # places in the settings, f64


def settings_of(adam: Adam) -> list[float]:
    """What the kernels read."""
    moments = (adam.learning_rate, adam.beta1, adam.beta2, adam.epsilon)
    return [*moments, adam.weight_decay, adam.warmup, float(adam.steps), adam.clip]


def rate_at(k: Builder, settings: Pointer, step: Operand) -> Value:
    """The learning rate: up to its peak over the share `warmup` of all steps, then down to zero, both in a line."""
    progress, warmup = step / settings[STEPS], settings[WARMUP]
    rising = k.select(warmup > 0.0, progress / k.maximum(warmup, 1e-30), 1.0)
    falling = (1.0 - progress) / (1.0 - warmup)
    return settings[RATE] * k.maximum(k.minimum(rising, falling), 0.0)


@kernel
def gather_gradients(
    k: Builder, gradients: F32s, start: Int, stop: Int, threads: Int, extent: Int, squares: F64s
) -> None:
    """Add up the threads' gradients in the first one's place, zero the others; squares[0] is the sum of squares."""
    width = k.width(F32)
    for thread in k.range(1, threads):
        others = gradients + thread * extent
        for i in k.range(start, stop, width):
            gradients.store(i, gradients.vector(i, width) + others.vector(i, width))
            others.store(i, k.constant(0, F32, width))
    sums = [k.zeros(width, F32) for _ in range(4)]
    for i in k.range(start, stop, 4 * width):
        for place, total in enumerate(sums):
            g = gradients.vector(i + place * width, width)
            total.accumulate(g, g)
    squares[0] = k.convert(k.group_sum(sums[0] + sums[1] + (sums[2] + sums[3]), width).lane(0), F64)


@kernel
def adamw(
    k: Builder,
    parameters: F32s,
    gradients: F32s,
    first: F32s,
    second: F32s,
    start: Int,
    stop: Int,
    settings: F64s,
    state: F64s,
    rate: Real,
    scale: Real,
) -> None:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= rate (m / c1 / (sqrt(v / c2) + epsilon) + decay p).

    g is the gradient times `scale`, and zero afterwards; c1 and c2 are 1 less the powers in `state`.
    """
    width = k.width(F32)
    beta1, beta2 = settings[BETA1], settings[BETA2]
    correction1, correction2 = 1.0 - state[0], 1.0 - state[1]
    step = k.convert(rate / correction1 * k.sqrt(correction2) * -1.0, F32)
    beside = k.convert(settings[EPSILON] * k.sqrt(correction2), F32)
    keep = k.convert(1.0 - rate * settings[DECAY], F32)
    old1, new1 = k.convert(beta1, F32), k.convert((1.0 - beta1) * scale, F32)
    old2, new2 = k.convert(beta2, F32), k.convert((1.0 - beta2) * scale * scale, F32)
    for i in k.range(start, stop, width):
        g = gradients.vector(i, width)
        m = k.mul_add(first.vector(i, width), old1, g * new1)
        v = k.mul_add(second.vector(i, width), old2, g * g * new2)
        gradients.store(i, k.constant(0, F32, width))
        first.store(i, m)
        second.store(i, v)
        root = v * k.reciprocal_sqrt(v + SMALLEST)  # leaves the divider to the quotient: 20 % of Adam's time
        ratio = m / (root + beside)
        parameters.store(i, k.mul_add(ratio, step, parameters.vector(i, width) * keep))
