import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from ddpm_np.forward import q_sample
from ddpm_np.plotting import points as plotting
from ddpm_np.schedules import SCHEDULES, linear_schedule


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def roll(rng):
    u = rng.uniform(1.5 * np.pi, 4.5 * np.pi, 400)
    return np.stack([u * np.cos(u), u * np.sin(u)], axis=1) / 8 + 0.05 * rng.normal(size=(400, 2))


def offsets(axes):
    return np.asarray(axes.collections[0].get_offsets())


def texts(axes):
    return [text.get_text() for text in axes.texts]


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


# plot_samples


def test_samples_share_limits_and_have_equal_aspect(roll):
    figure = plotting.plot_samples(roll, roll[:100] + 0.01, titles=("left", "right"))
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert left.get_aspect() == right.get_aspect() == 1.0
    assert [axes.get_title() for axes in figure.axes] == ["left", "right"]
    np.testing.assert_array_equal(offsets(left), roll)
    np.testing.assert_array_equal(offsets(right), roll[:100] + 0.01)
    assert texts(left) == texts(right) == []
    assert no_overlap(figure)


def test_wild_samples_are_counted_and_do_not_move_the_limits(roll):
    wild = roll.copy()
    wild[0] = np.nan
    wild[1, 0] = np.inf
    wild[2] = 1e300
    calm, figure = plotting.plot_samples(roll, roll), plotting.plot_samples(roll, wild)
    assert figure.axes[1].get_xlim() == calm.axes[1].get_xlim()
    assert texts(figure.axes[1]) == ["3 of 400 outside"]
    np.testing.assert_array_equal(offsets(figure.axes[1]), roll[3:])
    assert no_overlap(figure)


def test_all_samples_may_be_outside(roll, tmp_path):
    figure = plotting.plot_samples(roll, np.full_like(roll, np.nan))
    assert texts(figure.axes[1]) == ["400 of 400 outside"]
    plotting.save(figure, tmp_path / "a.png")


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_dimension_gives_histograms_that_integrate_to_the_share_inside(rng, shape):
    data, samples = rng.normal(size=1000).reshape(shape), rng.normal(size=500).reshape(shape)
    samples[:50] = 1e6
    figure = plotting.plot_samples(data, samples)
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert left.get_aspect() == "auto"
    for axes, share in zip((left, right), (1.0, 0.9), strict=True):
        values, edges, _ = axes.patches[0].get_data()
        assert np.sum(values * np.diff(edges)) == pytest.approx(share, rel=1e-13)
        assert values.max() < axes.get_ylim()[1]
    np.testing.assert_array_equal(
        right.patches[1].get_data().values, left.patches[0].get_data().values, err_msg="data outline"
    )
    assert texts(right) == ["50 of 500 outside"]
    assert no_overlap(figure)


def test_one_point_repeated_has_a_panel_of_some_extent():
    figure = plotting.plot_samples(np.ones((5, 2)), np.ones((5, 2)))
    low, high = figure.axes[0].get_xlim()
    assert low < 1.0 < high


@pytest.mark.parametrize(
    ("data", "samples", "error", "message"),
    [
        (np.zeros((3, 3)), np.zeros((3, 2)), ValueError, r"data must have shape.*\(3, 3\)"),
        (np.zeros((3, 2)), np.zeros((0, 2)), ValueError, r"samples must have shape.*\(0, 2\)"),
        (np.zeros((3, 2)), np.zeros(3), ValueError, r"samples must have the columns of data"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), ValueError, "data must be finite"),
        ("no", np.zeros((3, 2)), TypeError, "data must be a host array"),
    ],
)
def test_samples_refuse_other_shapes(data, samples, error, message):
    with pytest.raises(error, match=message):
        plotting.plot_samples(data, samples)


# plot_trajectory


def test_trajectory_has_two_labelled_rows_on_common_limits(roll, rng):
    schedule, times = linear_schedule(1000), [0, 10, 100, 1000]
    forward = [q_sample(schedule, roll, t, rng.normal(size=roll.shape)) for t in times]
    figure = plotting.plot_trajectory(forward, forward[::-1], times)
    assert len(figure.axes) == 8
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["$t = 0$", "$t = 10$", "$t = 100$", "$t = 1000$"]
    assert titles[4:] == titles[3::-1]
    assert figure.axes[0].get_ylabel() == "forward\n$q(x_t \\mid x_0)$"
    assert figure.axes[4].get_ylabel() == "reverse\n$p_\\theta(x_{t-1} \\mid x_t)$"
    assert len({(axes.get_xlim(), axes.get_ylim(), axes.get_aspect()) for axes in figure.axes}) == 1
    np.testing.assert_array_equal(offsets(figure.axes[0]), roll)
    np.testing.assert_array_equal(offsets(figure.axes[7]), roll)
    assert no_overlap(figure)


def test_trajectory_survives_a_reverse_chain_that_diverged(roll, tmp_path):
    figure = plotting.plot_trajectory([roll, roll], [roll, np.full_like(roll, np.nan)], [0, 5])
    plotting.save(figure, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("forward", "times", "error", "message"),
    [
        (
            [np.zeros((3, 2))],
            [0, 1],
            ValueError,
            "forward must hold one array for each of the 2 times, got 1",
        ),
        (
            [np.zeros((3, 2)), np.zeros(3)],
            [0, 1],
            ValueError,
            r"forward\[1\] must have shape \(n, 2\).*\(3,\)",
        ),
        ([np.zeros((3, 2))] * 2, [1, 0], ValueError, "times must increase"),
        ([np.zeros((3, 2))] * 2, [0.0, 1.0], TypeError, "times must be .* integers"),
        ([], [], TypeError, "times must be a non-empty sequence"),
        ([np.full((3, 2), np.nan)], [0], ValueError, "forward must have finite points"),
    ],
)
def test_trajectory_refuses(forward, times, error, message):
    with pytest.raises(error, match=message):
        plotting.plot_trajectory(forward, [np.zeros((3, 2))] * len(times), times)


# animate_reverse


def test_animation_has_every_frame_and_holds_the_last(roll, rng, tmp_path):
    path = tmp_path / "reverse.gif"
    times = np.linspace(1000, 0, 12).astype(int)
    frames = [roll + t / 500 * rng.normal(size=roll.shape) for t in times]
    plotting.animate_reverse(frames, times, path, fps=10)
    with Image.open(path) as gif:
        assert gif.n_frames == 12
        durations, orange = [], []
        for i in range(12):
            gif.seek(i)
            durations.append(gif.info["duration"])
            pixels = np.asarray(gif.convert("RGB")).astype(int)
            orange.append(np.count_nonzero(pixels[..., 0] > pixels[..., 2] + 50))
        assert gif.info["loop"] == 0
    assert durations == [100] * 11 + [2000]
    assert min(orange) > 300
    assert path.stat().st_size < 300_000
    assert [p.name for p in tmp_path.iterdir()] == ["reverse.gif"]


def test_animation_of_one_frame_and_of_a_diverged_chain(roll, tmp_path):
    plotting.animate_reverse([roll], [0], tmp_path / "one.gif")
    plotting.animate_reverse([roll, np.full_like(roll, np.inf)], [1, 0], tmp_path / "two.gif")
    with Image.open(tmp_path / "two.gif") as gif:
        assert gif.n_frames == 2


def test_animation_of_60_frames_is_small(rng, tmp_path):
    frames = rng.normal(size=(60, 2000, 2))
    plotting.animate_reverse(frames, np.arange(60)[::-1], tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size < 3_000_000


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [("a.png", 20, "path must end in .gif"), ("a.gif", 0, "fps must lie in"), ("a.gif", 60, "fps must")],
)
def test_animation_refuses(roll, tmp_path, name, fps, message):
    with pytest.raises(ValueError, match=message):
        plotting.animate_reverse([roll], [0], tmp_path / name, fps=fps)
    assert list(tmp_path.iterdir()) == []


# plot_loss


def test_loss_draws_the_values_and_their_centred_median():
    steps, loss = np.arange(1, 11), np.array([99.0, 5.0, 7.0, 6.0, 1.0, 2.0, 30.0, 4.0, 3.0, 8.0])
    (axes,) = plotting.plot_loss(steps, loss, smooth=4).axes  # that is 5
    raw, median = axes.get_lines()
    np.testing.assert_array_equal(raw.get_xydata(), np.stack([steps, loss], axis=1))
    extended = [5.0, 99.0, *loss, 8.0, 3.0]
    expected = [np.median(extended[i : i + 5]) for i in range(10)]
    np.testing.assert_array_equal(median.get_ydata(), expected)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "mean squared error")
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("n", "smooth", "lines"), [(1, None, 1), (10, 1, 1), (10, 99, 1), (10, 5, 2), (200, None, 2)]
)
def test_loss_of_any_length(n, smooth, lines, tmp_path):
    figure = plotting.plot_loss(np.arange(n), np.ones(n), smooth=smooth)
    assert len(figure.axes[0].get_lines()) == lines
    plotting.save(figure, tmp_path / "a.png")


def test_loss_leaves_out_what_is_not_finite_and_says_so():
    (axes,) = plotting.plot_loss([1, 2, 3, 4], [1.0, np.nan, -1.0, np.inf]).axes
    assert axes.get_yscale() == "linear"
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [1, 3])
    assert axes.get_legend().get_texts()[0].get_text() == "values (2 not finite)"


@pytest.mark.parametrize(
    ("steps", "loss", "smooth", "message"),
    [
        ([1, 2], [1.0], None, r"loss must have the shape of steps, \(2,\), got \(1,\)"),
        ([[1]], [1.0], None, r"steps must have shape \(n,\)"),
        ([1], [np.nan], None, "loss must have at least one finite value"),
        ([1], [1.0], 0, "smooth must be >= 1"),
    ],
)
def test_loss_refuses(steps, loss, smooth, message):
    with pytest.raises(ValueError, match=message):
        plotting.plot_loss(steps, loss, smooth=smooth)


# plot_elbo


def test_elbo_bars_have_the_heights_of_the_terms(tmp_path):
    L = -np.array([np.nan, 7.0, 0.5, 0.25, 0.125])  # entries 0 and 1 are not terms
    oracle = -np.array([0.0, 0.0, 0.4, 0.2, 0.1])
    figure = plotting.plot_elbo(L, L_T=-0.5, L_0=2.0, oracle=oracle, title="a title")
    (axes,) = figure.axes
    (bars,) = axes.containers
    assert [bar.get_height() for bar in bars] == [0.5, 0.25, 0.125]
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == [2.0, 3.0, 4.0]
    line = axes.patches[-1].get_data()
    np.testing.assert_array_equal(line.values, [0.4, 0.2, 0.1])
    np.testing.assert_array_equal(line.edges, [1.5, 2.5, 3.5, 4.5])
    assert axes.get_title("left") == (
        "$L_T$ = −0.5,  $\\sum\\,L_{t−1}$ = −0.875,  $L_0$ = 2,  ELBO = 0.625 nats"
    )
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["model", "oracle"]
    assert figure.get_suptitle() == "a title"
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "$-L_{t-1}$ (nats)"
    assert axes.get_ylim()[0] < 0.1
    assert axes.get_ylim()[1] > 0.5
    assert no_overlap(figure)
    plotting.save(figure, tmp_path / "a.png")


def test_elbo_of_a_thousand_steps_is_one_outline_of_all_terms(rng, tmp_path):
    L = -np.exp(-rng.uniform(0.0, 9.0, 1001))
    L[500], L[600] = 0.0, 1e-9
    figure = plotting.plot_elbo(L)
    (axes,) = figure.axes
    values, edges, _ = axes.patches[0].get_data()
    assert len(axes.patches) == 1
    np.testing.assert_array_equal(edges, np.arange(1.5, 1001.0))
    shown = np.isfinite(values)
    np.testing.assert_array_equal(values[shown], -L[2:][shown])
    np.testing.assert_array_equal(np.flatnonzero(~shown) + 2, [500, 600])
    assert axes.get_xlabel() == "$t$   (terms ≥ 0, not shown: 2)"
    assert axes.get_xscale() == axes.get_yscale() == "log"
    plotting.save(figure, tmp_path / "a.png")


@pytest.mark.parametrize("T", [1, 2, 60, 61])
@pytest.mark.parametrize("value", [0.0, -1.0, 1e-3])
def test_elbo_of_any_length_and_sign(T, value, tmp_path):
    figure = plotting.plot_elbo(np.full(T + 1, value), L_T=-0.1, L_0=np.float64(1.0))
    empty = T == 1 or value >= 0.0
    assert texts(figure.axes[0]) == ([f"$T = {T}$: no terms $L_{{t-1}} < 0$"] if empty else [])
    plotting.save(figure, tmp_path / "a.png")


def test_elbo_line_of_long_numbers_fits_the_figure():
    L = np.full(1001, 1.234e-7)
    L[2] = -1.234e-3
    figure = plotting.plot_elbo(L, L_T=-1.234e-05, L_0=-1.234e-05)
    assert "not shown: 998" in figure.axes[0].get_xlabel()
    assert no_overlap(figure)


@pytest.mark.parametrize(
    ("L", "oracle", "message"),
    [
        (np.zeros((3, 2)), None, r"L must have shape \(n,\).*\(3, 2\)"),
        (np.zeros(1), None, r"L must have shape \(T \+ 1,\)"),
        (np.array([0.0, 0.0, np.nan]), None, "L must be finite"),
        (np.zeros(3), np.zeros(4), r"oracle must have the shape of L, \(3,\), got \(4,\)"),
    ],
)
def test_elbo_refuses(L, oracle, message):
    with pytest.raises(ValueError, match=message):
        plotting.plot_elbo(L, oracle=oracle)


# plot_schedule


def test_schedule_draws_three_tables_of_each(tmp_path):
    schedules = {name: make(50) for name, make in SCHEDULES.items()}
    figure = plotting.plot_schedule(schedules)
    beta, alpha_bar, log_snr = figure.axes
    for i, schedule in enumerate(schedules.values()):
        np.testing.assert_array_equal(beta.get_lines()[i].get_ydata(), schedule.beta[1:])
        np.testing.assert_array_equal(alpha_bar.get_lines()[i].get_ydata(), schedule.alpha_bar)
        snr = schedule.alpha_bar[1:] / (1 - schedule.alpha_bar[1:])
        np.testing.assert_allclose(log_snr.get_lines()[i].get_ydata(), np.log(snr), rtol=1e-9)
        assert alpha_bar.get_lines()[i].get_xdata()[-1] == 1.0
    colors = {to_hex(line.get_color()) for line in beta.get_lines()}
    assert len(colors) == len(schedules)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(schedules)
    assert no_overlap(figure)
    plotting.save(figure, tmp_path / "a.png")


def test_schedule_takes_one_step_and_refuses_none():
    plotting.plot_schedule({"one": linear_schedule(1)})
    with pytest.raises(ValueError, match="at least one schedule"):
        plotting.plot_schedule({})
    with pytest.raises(TypeError, match="schedule must be"):
        plotting.plot_schedule({"no": 3})


# save


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")]
)
def test_saved_bytes_are_the_same_twice(roll, tmp_path, suffix, magic):
    for name in "ab":
        plotting.save(plotting.plot_samples(roll, roll), tmp_path / (name + suffix), dpi=50)
    first, second = ((tmp_path / (name + suffix)).read_bytes() for name in "ab")
    assert first == second
    assert first.startswith(magic)


def test_a_failed_save_leaves_the_old_file_and_no_litter(roll, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    figure = plotting.plot_samples(roll, roll)

    def fail(file, **_options):
        file.write(b"half")
        raise OSError("full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="full"):
        plotting.save(figure, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_save_refuses_other_formats(roll, tmp_path):
    with pytest.raises(ValueError, match=r"path must end in .png or .svg or .pdf"):
        plotting.save(plotting.plot_samples(roll, roll), tmp_path / "a.jpg")


# imports


@pytest.mark.parametrize(
    ("imported", "absent"), [("ddpm_np", "matplotlib"), ("ddpm_np.plotting", "matplotlib.pyplot")]
)
def test_imports_stay_light(imported, absent):
    code = f"import sys, {imported}; sys.exit({absent!r} in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
