"""The picture of a budget: its bars add up, and its words say what they are."""

import numpy as np
import pytest

from ddpm_np.plotting import PALETTE, plot_budget, save


def tables(T, rng):
    return {
        name: np.concatenate([[0.0], rng.uniform(0.0, 0.01, T)])
        for name in ("steps", "variance", "network")
    }


def bars(axes):
    """Heights by container, in the order drawn."""
    return [np.array([bar.get_height() for bar in container]) for container in axes.containers]


@pytest.mark.parametrize("T", [1, 40, 41, 1000])
def test_all_bars_together_are_the_sum(T):
    parts = tables(T, np.random.default_rng(T))
    (axes,) = plot_budget(parts, start=0.25, gap=(1.0, 0.1)).axes
    *stacks, start = bars(axes)
    for heights, table in zip(stacks, parts.values(), strict=True):
        assert np.sum(heights) == pytest.approx(np.sum(table), rel=1e-12)
        assert len(heights) <= 40
    assert start == pytest.approx([0.25])
    total = 0.25 + sum(np.sum(table) for table in parts.values())
    assert axes.get_title(loc="left") == f"sum {total:.4f},  measured gap 1.0000 ± 0.1000"
    tops = [bar.get_y() + bar.get_height() for bar in axes.containers[2]]
    np.testing.assert_allclose(tops, np.sum(stacks, axis=0))


def test_few_steps_have_a_bar_each_and_many_say_what_a_bar_holds():
    rng = np.random.default_rng(0)
    few, many = (plot_budget(tables(T, rng), start=0.0).axes[0] for T in (5, 500))
    assert [label.get_text() for label in few.get_xticklabels()] == ["1", "2", "3", "4", "5", "start"]
    assert few.get_xlabel() == "$t$"
    assert many.get_xlabel() == "$t$ (first of the times in a bar)"
    labels = [label.get_text() for label in many.get_xticklabels()]
    assert labels[0] == "1"
    assert labels[-1] == "start"
    assert len(labels) <= 11


def test_sampling_noise_below_zero_counts_and_is_not_drawn():
    table = np.array([0.0, 0.3, -0.1, 0.2])
    (axes,) = plot_budget({"steps": table}, start=-0.05).axes
    np.testing.assert_allclose(bars(axes)[0], [0.3, 0.0, 0.2])
    np.testing.assert_allclose(bars(axes)[1], [0.0])
    (legend,) = [axes.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["start −0.0500", "steps 0.4000"]
    assert axes.get_title(loc="left") == "sum 0.3500"


def test_colours_differ_and_the_picture_is_written(tmp_path):
    figure = plot_budget(tables(100, np.random.default_rng(0)), start=0.1)
    colours = {container[0].get_facecolor() for container in figure.axes[0].containers}
    assert len(colours) == 4
    assert len(PALETTE) == 7
    save(figure, tmp_path / "budget.png")
    assert (tmp_path / "budget.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("parts", "start", "words"),
    [
        ({}, 0.0, "one to four tables"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, 0.0, "one to four tables of one length"),
        ({"a": np.zeros(1)}, 0.0, "one to four tables"),
        ({"a": np.array([0.0, np.nan])}, 0.0, "'a'.* must be finite"),
        ({"a": np.zeros((3, 2))}, 0.0, "'a'.* must have shape"),
        ({"a": np.zeros(3)}, np.inf, "start must lie in"),
    ],
)
def test_bad_arguments(parts, start, words):
    with pytest.raises((TypeError, ValueError), match=words):
        plot_budget(parts, start=start)
