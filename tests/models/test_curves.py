"""Losses as curves: each point is the mean of its steps, and no step is left out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt.models.curves import POINTS, curve, thin


@given(st.lists(st.floats(-9, 9), max_size=60), st.integers(1, 20), st.integers(0, 5))
def test_points_are_means_of_about_as_many_steps_each(losses: list[float], most: int, first: int) -> None:
    thinned = thin(enumerate(losses, first + 1), most)
    assert len(thinned["steps"]) == len(thinned["mean"]) == min(len(losses), most)
    start = first
    for place, (end, mean) in enumerate(zip(thinned["steps"], thinned["mean"], strict=True), 1):
        assert abs(end - first - place * len(losses) / len(thinned["steps"])) <= 0.5
        group = losses[start - first : end - first]
        assert mean == float(f"{math.fsum(group) / len(group):.4g}")
        start = end
    assert start == first + len(losses)


def test_a_curve_has_at_most_its_points() -> None:
    losses = [float(step) for step in range(1, 2 * POINTS + 1)]
    assert curve(losses, 7) == {
        "steps": list(range(9, 8 + 2 * POINTS, 2)),
        "mean": [float(f"{step + 0.5:.4g}") for step in range(1, 2 * POINTS, 2)],
    }
    assert len(curve(losses[:POINTS])["steps"]) == POINTS


@pytest.mark.slow
def test_a_model_plots_its_losses(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    model = tapegpt.train(["anna", "otto", "bob", "eve"], steps=20, n_embd=4, n_head=2, validation=0.25)
    axes = model.plot_losses(figure.Figure().subplots())
    noisy, training, held_out = axes.lines
    assert len(model.losses) == 20
    for line in (noisy, training):  # so few are not smoothed
        assert list(line.get_xdata()) == curve(model.losses)["steps"]
        assert list(line.get_ydata()) == curve(model.losses)["mean"]
    assert len({line.get_color() for line in axes.lines}) == 1
    (single,) = tapegpt.train(["anna"], steps=1, n_embd=4, n_head=2).plot_losses(figure.Figure().subplots()).lines[1:]
    assert single.get_marker() == "o"
    assert model.state
    assert list(held_out.get_ydata()) == [each.loss for each in model.state.evaluations]
    with pytest.raises(tapegpt.TapeGPTError, match="a file keeps none"):
        tapegpt.loads(tapegpt.dumps(model)).plot_losses()
