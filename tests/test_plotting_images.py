import numpy as np
import pytest

from ddpm_np.plotting import images as image_plots
from ddpm_np.plotting import points as plotting


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (23, 8, 6, 1)).astype(np.float32)


def no_overlap(figure):
    """The boxes of the panels, with their labels, do not overlap and lie inside the figure."""
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    page = figure.bbox.padded(1.0)
    for i, box in enumerate(boxes):
        assert page.contains(*box.min)
        assert page.contains(*box.max)
        assert box.count_overlaps(boxes[:i]) == 0
    return True


def labels_apart(axis):
    """The labels of the ticks do not overlap."""
    boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
    return all(not one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def canvas(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


def test_a_grid_holds_each_image_where_it_belongs(images):
    figure = image_plots.plot_image_grid(images, columns=5, title="samples")
    assert figure.axes[0].get_title() == "samples"
    pixels = canvas(figure.axes[0])
    assert pixels.shape == (5 * 9 + 1, 5 * 7 + 1, 3)
    for k in (0, 4, 5, 22):
        top, left = 1 + 9 * (k // 5), 1 + 7 * (k % 5)
        expected = np.broadcast_to((images[k].astype(float) + 1) / 2, (8, 6, 3))
        np.testing.assert_array_equal(pixels[top : top + 8, left : left + 6], expected)
    assert len(np.unique(pixels[-8:, -8:].reshape(-1, 3), axis=0)) == 1  # two places are empty
    assert no_overlap(figure)


def test_values_beyond_the_range_are_cut_and_nan_is_black(images):
    images[0, 0, :4, 0] = [-9.0, 9.0, np.nan, np.inf]
    pixels = canvas(image_plots.plot_image_grid(images[:1]).axes[0])
    assert pixels[1, 1:5, 0].tolist() == [0.0, 1.0, 0.0, 1.0]


def test_rows_have_names_that_stay_apart(images):
    names = [f"class {k}" for k in range(8)]
    figure = image_plots.plot_image_grid(images, columns=3, rows=names, ylabel="class asked for")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    np.testing.assert_allclose(axes.get_yticks(), 4.5 + 9 * np.arange(8), rtol=1e-14)
    assert no_overlap(figure)
    assert labels_apart(axes.yaxis)
    with pytest.raises(ValueError, match="each of the 8 rows, got 2"):
        image_plots.plot_image_grid(images, columns=3, rows=["a", "b"])


def test_fewer_images_than_columns_make_one_row(images):
    assert canvas(image_plots.plot_image_grid(images[:2], columns=10).axes[0]).shape[:2] == (10, 15)


def test_colours_are_kept():
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3))
    pixels = canvas(image_plots.plot_image_grid(images).axes[0])
    np.testing.assert_allclose(pixels[2:18, 2:18], (images[0] + 1) / 2, rtol=1e-13)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 8, 8)),
        np.zeros((3, 8, 8, 2)),
        np.zeros((0, 8, 8, 1)),
        np.zeros((3, 8, 8, 1), int),
        "no",
    ],
    ids=["no channels", "two channels", "none", "integers", "text"],
)
def test_other_arrays_are_refused(images):
    with pytest.raises(ValueError, match=r"images must be floating images of shape \(n, H, W, 1\)"):
        image_plots.plot_image_grid(images)


def test_strips_run_forward_above_and_back_below(images):
    times = [0, 3, 12, 25, 50, 100, 400, 1000]
    forward = [images[:2] * (k + 1) / 8 for k in range(8)]
    reverse = [images[2:5] * (k + 1) / 8 for k in range(8)]
    figure = image_plots.plot_image_strips(forward, reverse, times)
    top, bottom = figure.axes
    assert [label.get_text() for label in top.get_xticklabels()] == [f"$t = {t}$" for t in times]
    assert [label.get_text() for label in bottom.get_xticklabels()] == [
        f"$t = {t}$" for t in times[::-1]
    ]
    assert (canvas(top).shape[:2], canvas(bottom).shape[:2]) == ((19, 57), (28, 57))
    np.testing.assert_allclose(canvas(top)[10:18, 50:56, 0], (forward[7][1, ..., 0] + 1) / 2, rtol=1e-6)
    assert "forward" in top.get_ylabel()
    assert "reverse" in bottom.get_ylabel()
    assert no_overlap(figure)
    assert labels_apart(top.xaxis)


def test_strips_refuse_what_does_not_fit(images):
    frames = [images[:2]] * 3
    with pytest.raises(ValueError, match="times must increase"):
        image_plots.plot_image_strips(frames, frames, [0, 2, 1])
    with pytest.raises(ValueError, match="reverse must hold images for each of the 3 times, got 2"):
        image_plots.plot_image_strips(frames, frames[:2], [0, 1, 2])
    with pytest.raises(ValueError, match="as many images"):
        image_plots.plot_image_strips([*frames[:2], images[:1]], frames, [0, 1, 2])
    with pytest.raises(TypeError, match="integers"):
        image_plots.plot_image_strips(frames, frames, [0.0, 0.5, 1.0])


def test_terms_are_lines_in_bits_per_dimension():
    L = -np.geomspace(1, 1e-3, 51)
    L[7] = 0.01
    figure = image_plots.plot_terms({"beta": L, "optimal": L / 2}, 64)
    (axes,) = figure.axes
    lines = axes.get_lines()
    assert len({line.get_linestyle() for line in lines}) == 2
    assert len({line.get_color() for line in lines}) == 2
    x, y = lines[0].get_data()
    assert x.tolist() == [*range(2, 51)]
    np.testing.assert_allclose(y[x != 7], -L[2:][x != 7] / 64 / np.log(2), rtol=1e-14)
    assert np.isnan(y[x == 7])
    total = -L[2:].sum() / 64 / np.log(2)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == [f"beta: sum {total:.3f}", f"optimal: sum {total / 2:.3f}"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$t$", "$-L_{t-1}$ (bits per dimension)")
    assert no_overlap(figure)
    with pytest.raises(ValueError, match="at least one"):
        image_plots.plot_terms({}, 64)


@pytest.mark.parametrize("T", [1, 2, 3])
def test_terms_of_few_steps_are_drawn_too(T, tmp_path):
    figure = image_plots.plot_terms({"beta": -np.ones(T + 1)}, 4)
    plotting.save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
