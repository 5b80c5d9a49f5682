import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import BackendError, get_backend
from ddpm_np.nn import Adam, MLPDenoiser, constant_rate, cosine_decay, mlp_loss_and_gradient
from ddpm_np.nn.ops import GENERIC, Ops
from ddpm_np.nn.tree import ravel
from ddpm_np.runs.batches import batches, draw_batch
from ddpm_np.runs.checkpoint import load_checkpoint, save_checkpoint
from ddpm_np.runs.evaluation import predictor
from ddpm_np.runs.log import MetricsLog, read_metrics
from ddpm_np.schedules import scaled_linear_schedule
from ddpm_np.targets import TARGETS
from ddpm_np.training import Recipe, batch_gradient, init_state, train, train_step

T, BATCH = 25, 16
SCHEDULE = scaled_linear_schedule(T)
WEIGHT = np.linspace(0.5, 3.0, T + 1)
DATA = np.random.default_rng(0).standard_normal((200, 2)) * [1.0, 0.3] + [0.5, -1.0]


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    try:
        return get_backend(request.param)
    except BackendError as error:
        pytest.skip(str(error))


RATE = constant_rate(1e-2)


def make_recipe(rate=RATE, **settings):
    network = MLPDenoiser(2, T, 8, 1, embedding_size=8)
    settings = {"loss_and_gradient": mlp_loss_and_gradient, **settings}
    return Recipe(SCHEDULE, network, Adam(rate), **settings)


def start(recipe, backend, dtype):
    return init_state(recipe, 0, lambda values: backend.asarray(values, dtype))


def make_draw(backend, dtype, seed=0):
    data = DATA.astype(dtype)

    def draw(step):
        x0, t, noise = draw_batch(data, T, BATCH, seed, step)
        return backend.asarray(x0, dtype), t, backend.asarray(noise, dtype)

    return draw


def bits(state):
    """Everything in a state that could differ."""
    arrays = (state.params, state.average, state.optimizer.m, state.optimizer.v, state.loss_sum)
    return (
        *(state.step, state.optimizer.step),
        *((np.asarray(a).dtype, np.shape(a), np.asarray(a).tobytes()) for a in arrays),
    )


def truth_of(target, x0, t, noise):
    """What the network should predict, straight from the definitions, in float64."""
    ab, before = SCHEDULE.alpha_bar[t][:, None], SCHEDULE.alpha_bar[t - 1][:, None]
    a, b = SCHEDULE.alpha[t][:, None], SCHEDULE.beta[t][:, None]
    x_t = np.sqrt(ab) * x0 + np.sqrt(1 - ab) * noise
    posterior_mean = (np.sqrt(before) * b * x0 + np.sqrt(a) * (1 - before) * x_t) / (1 - ab)
    v = np.sqrt(ab) * noise - np.sqrt(1 - ab) * x0
    return x_t, {"eps": noise, "x0": x0, "mean": posterior_mean, "v": v}[target]


def loss_of(recipe, params, x0, t, noise):
    x_t, truth = truth_of(recipe.target, x0, t, noise)
    weight = 1.0 if recipe.weight is None else recipe.weight[t][:, None]
    return np.mean(weight * (predictor(recipe, params, GENERIC)(x_t, t) - truth) ** 2)


# --- one step -----------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["simple", "weighted"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_step_is_pure(backend, dtype, target, weight):
    recipe = make_recipe(target=target, weight=weight, max_grad_norm=1.0)
    state = train_step(recipe, start(recipe, backend, dtype), *make_draw(backend, dtype)(0), backend.ops)
    batch = make_draw(backend, dtype)(1)
    for array in (state.params, state.average, state.optimizer.m, state.optimizer.v, *batch):
        array.flags.writeable = False
    before = bits(state), [array.tobytes() for array in batch]
    first = train_step(recipe, state, *batch, backend.ops)
    second = train_step(recipe, state, *batch, backend.ops)
    assert bits(first) == bits(second)
    assert (bits(state), [array.tobytes() for array in batch]) == before
    assert bits(first) != bits(state)
    assert first.step == first.optimizer.step == 2


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["simple", "weighted"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_and_its_gradient_are_those_of_the_definition(target, weight):
    recipe = make_recipe(target=target, weight=weight)
    state, batch = start(recipe, get_backend("numpy"), "float64"), draw_batch(DATA, T, BATCH, 0, 0)
    new = train_step(recipe, state, *batch, GENERIC)
    assert float(new.loss_sum) == pytest.approx(loss_of(recipe, state.params, *batch), rel=1e-12)

    grad = new.optimizer.m / (1 - recipe.optimizer.beta_1)  # the first moment started at 0
    numeric, h = np.zeros_like(grad), 1e-5
    for k in range(grad.size):
        high, low = state.params.copy(), state.params.copy()
        high[k] += h
        low[k] -= h
        numeric[k] = (loss_of(recipe, high, *batch) - loss_of(recipe, low, *batch)) / (2 * h)
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)

    # Adam's first step is the learning rate along the sign of the gradient.
    large = np.abs(grad) > 1e-4
    assert large.sum() > grad.size / 2
    np.testing.assert_allclose(
        (new.params - state.params)[large], -1e-2 * np.sign(grad)[large], rtol=1e-3
    )


def test_the_average_moves_by_the_decay_and_starts_at_the_parameters():
    recipe = make_recipe(ema_decay=0.75)
    state = start(recipe, get_backend("numpy"), "float64")
    assert state.average.tobytes() == state.params.tobytes()
    for step in range(40):
        decay = min(0.75, (1 + step) / (10 + step))  # 0.1 at first, 0.75 from step 26 on
        new = train_step(recipe, state, *draw_batch(DATA, T, BATCH, 0, step), GENERIC)
        expected = decay * state.average + (1.0 - decay) * new.params
        np.testing.assert_allclose(new.average, expected, rtol=1e-13)
        state = new


def test_the_average_of_a_short_run_forgets_the_start():
    recipe = make_recipe(ema_decay=0.999)
    state = first = start(recipe, get_backend("numpy"), "float64")
    for step in range(60):
        state = train_step(recipe, state, *draw_batch(DATA, T, BATCH, 0, step), GENERIC)
    left = np.linalg.norm(state.average - state.params) / np.linalg.norm(first.params - state.params)
    assert left < 0.3


def test_losses_add_up_until_they_are_reported(backend, dtype):
    recipe, draw = make_recipe(), make_draw(backend, dtype)
    state = start(recipe, backend, dtype)
    assert float(state.loss_sum) == 0.0
    total = 0.0
    for step in range(5):
        total += loss_of(recipe, np.asarray(state.params, dtype="float64"), *draw(step))
        state = train_step(recipe, state, *draw(step), backend.ops)
    assert np.shape(state.loss_sum) == ()
    assert float(state.loss_sum) == pytest.approx(total, rel=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["simple", "weighted"])
@pytest.mark.parametrize("target", TARGETS)
def test_training_decreases_the_loss(backend, dtype, target, weight):
    recipe = make_recipe(target=target, weight=weight)
    fixed = draw_batch(DATA, T, 2000, 1, 0)
    state = start(recipe, backend, dtype)
    before = loss_of(recipe, np.asarray(state.params, dtype="float64"), *fixed)
    state = train(recipe, state, make_draw(backend, dtype), backend.ops, steps=250)
    after = loss_of(recipe, np.asarray(state.params, dtype="float64"), *fixed)
    assert after < 0.5 * before


def parts_of(rows, order=list):
    """Cut a batch in parts of some rows, and work on them in some order."""

    def in_parts(function, size, *_):
        parts = [slice(start, min(start + rows, size)) for start in range(0, size, rows)]
        results = {part.start: function(part) for part in order(parts)}
        return [results[start] for start in sorted(results)]

    return in_parts


@given(
    size=st.integers(1, 40),
    rows=st.integers(1, 41),
    target=st.sampled_from(TARGETS),
    weight=st.sampled_from([None, WEIGHT]),
    limit=st.sampled_from([None, 1e-2]),
    each=st.booleans(),
    reverse=st.booleans(),
)
def test_a_step_in_parts_is_the_step(size, rows, target, weight, limit, each, reverse):
    """Also where the last part is smaller; parts may be done in any order."""
    recipe = make_recipe(target=target, weight=weight, max_grad_norm=limit)
    state = start(recipe, get_backend("numpy"), "float64")
    x0, t, noise = draw_batch(DATA, T, size, 0, 0)
    t = t if each else int(t[0])
    whole = train_step(recipe, state, x0, t, noise, GENERIC)
    ops = Ops(in_parts=parts_of(rows, reversed if reverse else list))
    parts = train_step(recipe, state, x0, t, noise, ops)
    # Sums of 40 examples and of some ten hidden units, of either sign.
    assert float(parts.loss_sum) == pytest.approx(float(whole.loss_sum), rel=1e-13)
    grad, expected = parts.optimizer.m, whole.optimizer.m
    assert np.linalg.norm(grad - expected) <= 1e-13 * np.linalg.norm(expected)
    if rows >= size:
        assert bits(parts) == bits(whole)


def test_a_part_has_the_times_noise_and_weights_of_its_own_rows():
    """The share of a part counts: it is the mean of all rows, not of means of parts."""
    recipe = make_recipe(weight=WEIGHT)
    state = start(recipe, get_backend("numpy"), "float64")
    batch = draw_batch(DATA, T, 7, 0, 0)
    step = train_step(recipe, state, *batch, Ops(in_parts=parts_of(3)))
    assert float(step.loss_sum) == pytest.approx(loss_of(recipe, state.params, *batch), rel=1e-13)


class ByClass:
    """A denoiser whose prediction is one parameter for each class, and which keeps what it is given."""

    def __init__(self):
        self.seen = []

    def init(self, rng):
        return np.array([1.0, -2.0, 5.0])

    def forward(self, params, x_t, t, ops, labels=None):
        self.seen.append((x_t, t, labels))
        chosen = np.zeros(len(x_t), int) if labels is None else labels
        return np.broadcast_to(params[chosen][:, None], x_t.shape), chosen

    def backward(self, params, cache, dy, ops):
        return np.zeros_like(dy), np.bincount(cache, weights=dy.sum(axis=1), minlength=3)


@pytest.mark.parametrize("rows", [7, 3, 1])
def test_labels_go_to_the_denoiser(rows):
    denoiser = ByClass()
    recipe = Recipe(SCHEDULE, denoiser, Adam(RATE))
    state = start(recipe, get_backend("numpy"), "float64")
    (x0, t, noise), labels = draw_batch(DATA, T, 7, 0, 0), np.array([2, 0, 1, 1, 2, 2, 0])
    step = train_step(recipe, state, x0, t, noise, Ops(in_parts=parts_of(rows)), labels)
    x_t, times, classes = (np.concatenate(column) for column in zip(*denoiser.seen, strict=True))
    np.testing.assert_allclose(x_t, truth_of("eps", x0, t, noise)[0], rtol=0.0, atol=1e-15)
    np.testing.assert_array_equal(times, t)
    np.testing.assert_array_equal(classes, labels)
    error = state.params[labels][:, None] - noise
    assert float(step.loss_sum) == pytest.approx(np.mean(error**2), rel=1e-13)
    grad = [2.0 * np.sum(error[labels == k]) / error.size for k in range(3)]
    np.testing.assert_allclose(step.optimizer.m / (1 - 0.9), grad, rtol=1e-13)


def test_without_labels_the_denoiser_gets_none():
    denoiser = ByClass()
    recipe = Recipe(SCHEDULE, denoiser, Adam(RATE))
    state = start(recipe, get_backend("numpy"), "float64")
    train_step(recipe, state, *draw_batch(DATA, T, 7, 0, 0), GENERIC)
    train_step(recipe, state, *draw_batch(DATA, T, 7, 0, 0), GENERIC, None)
    assert [labels for _, _, labels in denoiser.seen] == [None, None]


def test_the_loop_hands_labels_on():
    denoiser, labels = ByClass(), np.arange(len(DATA)) % 2 + 1
    recipe = Recipe(SCHEDULE, denoiser, Adam(RATE))
    draw = batches(DATA, T, 7, 0, labels)
    train(recipe, start(recipe, get_backend("numpy"), "float64"), draw, GENERIC, steps=3)
    for step, (*_, seen) in enumerate(denoiser.seen):
        np.testing.assert_array_equal(seen, draw(step)[3])


def test_predictor_hands_labels_on():
    denoiser, labels = ByClass(), np.array([2, 0, 1, 1, 2, 2, 0])
    recipe = Recipe(SCHEDULE, denoiser, Adam(RATE))
    params, x = denoiser.init(None), np.zeros((7, 2))
    y = predictor(recipe, params, Ops(in_parts=parts_of(3)), labels)(x, 4)
    np.testing.assert_array_equal(y, np.repeat(params[labels][:, None], 2, axis=1))
    y = predictor(recipe, params, Ops(in_parts=parts_of(3)))(x, 4)
    np.testing.assert_array_equal(y, np.ones((7, 2)))


def test_gradients_are_clipped_to_their_global_norm():
    batch, states = draw_batch(DATA, T, BATCH, 0, 0), {}
    for limit in (None, 1e3, 1e-3):
        recipe = make_recipe(max_grad_norm=limit)
        states[limit] = train_step(
            recipe, start(recipe, get_backend("numpy"), "float64"), *batch, GENERIC
        )
    free, loose, tight = ((state.optimizer.m / 0.1) for state in states.values())
    assert bits(states[None]) == bits(states[1e3])
    assert loose.tobytes() == free.tobytes()
    assert np.linalg.norm(free) > 0.1
    assert np.linalg.norm(tight) == pytest.approx(1e-3, rel=1e-12)
    np.testing.assert_allclose(tight / np.linalg.norm(tight), free / np.linalg.norm(free), rtol=1e-10)


@pytest.mark.parametrize(
    "t", [np.array([0] * BATCH), np.array([T + 1] * BATCH), np.array([1.0] * BATCH)]
)
def test_a_step_refuses_times_out_of_range(t):
    recipe = make_recipe()
    x0, _, noise = draw_batch(DATA, T, BATCH, 0, 0)
    with pytest.raises((TypeError, ValueError), match="t must"):
        train_step(recipe, start(recipe, get_backend("numpy"), "float64"), x0, t, noise, GENERIC)


@pytest.mark.parametrize(
    ("settings", "error", "name"),
    [
        ({"target": "noise"}, ValueError, "target"),
        ({"weight": np.ones(T)}, ValueError, "weight"),
        ({"weight": np.zeros(T + 1)}, ValueError, "weight"),
        ({"ema_decay": 1.0}, ValueError, "ema_decay"),
        ({"ema_decay": -0.1}, ValueError, "ema_decay"),
        ({"ema_decay": "0.9"}, TypeError, "ema_decay"),
        ({"max_grad_norm": 0.0}, ValueError, "max_grad_norm"),
        ({"max_grad_norm": math.nan}, ValueError, "max_grad_norm"),
    ],
)
def test_a_recipe_refuses_and_names_what_is_out_of_range(settings, error, name):
    with pytest.raises(error, match=name):
        make_recipe(**settings)


# --- batches and the first state ----------------------------------------------------------


def test_a_batch_is_a_pure_function_of_seed_and_step(dtype):
    data = DATA.astype(dtype)
    again = [draw_batch(data, T, BATCH, 3, 5) for _ in range(2)]
    assert [a.tobytes() for a in again[0]] == [a.tobytes() for a in again[1]]
    keys = [(3, 5), (3, 6), (4, 5), (5, 3)]
    for k in range(3):
        assert len({draw_batch(data, T, BATCH, *key)[k].tobytes() for key in keys}) == len(keys)


def test_a_batch_holds_examples_uniform_times_and_normal_noise(dtype):
    x0, t, noise = draw_batch(DATA.astype(dtype), T, 50_000, 0, 0)
    assert x0.dtype == noise.dtype == dtype
    assert x0.shape == noise.shape == (50_000, 2)
    chosen = {tuple(row) for row in x0.tolist()}
    assert chosen == {tuple(row) for row in DATA.astype(dtype).tolist()}
    counts = np.bincount(t, minlength=T + 1)
    assert counts[0] == 0
    assert len(counts) == T + 1
    expected = 50_000 / T
    assert np.sum((counts[1:] - expected) ** 2) / expected < 60  # chi-squared, 24 degrees: p = 6e-5
    assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
    assert abs(noise.var() - 1) < 5 * math.sqrt(2 / noise.size)
    assert abs(np.mean(noise * (x0 - x0.mean(axis=0)))) < 5 / math.sqrt(noise.size)


def test_batches_do_not_depend_on_the_order_in_which_they_are_asked_for(dtype, monkeypatch):
    """Though those of neighbouring steps, here of three, are drawn together."""
    monkeypatch.setattr("ddpm_np.runs.batches.DRAWN_TOGETHER", 3 * BATCH * 2)
    data, labels = DATA.astype(dtype), np.arange(len(DATA)) % 3
    draw = batches(data, T, BATCH, 3, labels, 0.5)
    first = {step: [a.tobytes() for a in draw(step)] for step in (5, 0, 4, 1, 2, 3, 7, 2**60)}
    for step, expected in sorted(first.items()):
        assert [a.tobytes() for a in draw(step)] == expected
        assert [a.tobytes() for a in batches(data, T, BATCH, 3, labels, 0.5)(step)] == expected
        assert [a.tobytes() for a in draw_batch(data, T, BATCH, 3, step)] == expected[:3]
    for column in zip(*first.values(), strict=True):
        assert len(set(column)) == len(first)


@pytest.mark.parametrize("together", [1, 2**15])
@pytest.mark.parametrize("shape", [(2,), (3, 3, 1), ()])
def test_batches_have_their_shape(shape, together, monkeypatch):
    monkeypatch.setattr("ddpm_np.runs.batches.DRAWN_TOGETHER", together)
    x0, t, noise = batches(np.ones((10, *shape)), T, 4, 0)(11)
    assert x0.shape == noise.shape == (4, *shape)
    assert t.shape == (4,)


@pytest.mark.parametrize("unlabelled", [0.0, 0.25, 1.0])
def test_labels_are_those_of_the_examples_or_none(unlabelled):
    labels = np.random.default_rng(0).integers(1, 4, len(DATA))
    x0, _, _, drawn = batches(DATA, T, 20_000, 0, labels, unlabelled)(2)
    of = {row.tobytes(): label for row, label in zip(DATA, labels, strict=True)}
    true = np.array([of[row.tobytes()] for row in x0])
    assert np.all((drawn == true) | (drawn == 0))
    lost = np.mean(drawn == 0)
    assert abs(lost - unlabelled) <= 5 * math.sqrt(unlabelled * (1 - unlabelled) / 20_000)
    if unlabelled == 0.25:  # no matter which label
        for label in (1, 2, 3):
            assert np.mean(drawn[true == label] == 0) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("labels", "unlabelled", "error", "message"),
    [
        (np.ones(len(DATA) + 1, int), 0.0, ValueError, r"labels must be integers of shape \(200,\)"),
        (np.ones((len(DATA), 1), int), 0.0, ValueError, "labels must be integers"),
        (np.ones(len(DATA)), 0.0, ValueError, "labels must be integers"),
        (np.ones(len(DATA), int), 1.5, ValueError, "unlabelled"),
        (np.ones(len(DATA), int), "some", TypeError, "unlabelled"),
    ],
)
def test_batches_refuse_labels_that_do_not_go_with_the_data(labels, unlabelled, error, message):
    with pytest.raises(error, match=message):
        batches(DATA, T, BATCH, 0, labels, unlabelled)


def test_the_first_state_depends_on_the_seed_alone(backend, dtype):
    recipe = make_recipe()
    states = [init_state(recipe, s, lambda a: backend.asarray(a, dtype)) for s in (0, 0, 1)]
    assert bits(states[0]) == bits(states[1])
    assert states[0].params.tobytes() != states[2].params.tobytes()
    assert states[0].params.dtype == dtype
    assert states[0].step == states[0].optimizer.step == 0
    assert not states[0].optimizer.m.any()
    assert not states[0].optimizer.v.any()


# --- the loop -----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [20, 23])
def test_reports_and_saves_when_it_says(steps):
    recipe, numpy = make_recipe(), get_backend("numpy")
    draw = make_draw(numpy, "float64")
    losses, state = [], start(recipe, numpy, "float64")
    for step in range(steps):
        losses.append(loss_of(recipe, state.params, *draw(step)))
        state = train_step(recipe, state, *draw(step), GENERIC)

    calls, drawn = [], []
    end = train(
        recipe,
        start(recipe, numpy, "float64"),
        lambda step: (drawn.append(step), draw(step))[1],
        GENERIC,
        steps=steps,
        report=lambda step, loss: calls.append(("report", step, loss)),
        report_every=5,
        save=lambda state: calls.append(("save", state.step, state)),
        save_every=10,
    )
    assert drawn == list(range(steps))
    assert end.params.tobytes() == state.params.tobytes()
    last = [("report", 23), ("save", 23)] if steps == 23 else []
    order = [("report", 5), ("report", 10), ("save", 10), ("report", 15), ("report", 20), ("save", 20)]
    assert [call[:2] for call in calls] == order + last
    for kind, step, value in calls:
        first = (step - 1) // 5 * 5
        if kind == "report":
            assert value == pytest.approx(np.mean(losses[first:step]), rel=1e-12)
        else:
            since = sum(losses[step // 5 * 5 : step])
            assert float(value.loss_sum) == pytest.approx(since, rel=1e-12, abs=0)
    assert bits(calls[-1][2]) == bits(end)


def test_nothing_left_to_do_is_nothing_done():
    recipe, numpy = make_recipe(), get_backend("numpy")
    draw, never = make_draw(numpy, "float64"), pytest.fail
    state = train(recipe, start(recipe, numpy, "float64"), draw, GENERIC, steps=7)
    again = train(recipe, state, never, GENERIC, steps=7, report=never, save=never)
    assert again is state
    fresh = start(recipe, numpy, "float64")
    assert train(recipe, fresh, never, GENERIC, steps=0, report=never, save=never) is fresh


@pytest.mark.parametrize("name", ["steps", "report_every", "save_every"])
@pytest.mark.parametrize("bad", [-1, 1.5, "3"])
def test_the_loop_refuses_what_is_no_count(name, bad):
    recipe, numpy = make_recipe(), get_backend("numpy")
    with pytest.raises((TypeError, ValueError), match=name):
        train(recipe, start(recipe, numpy, "float64"), pytest.fail, GENERIC, **{"steps": 5, name: bad})


# --- resuming -----------------------------------------------------------------------------

STEPS, REPORT, SAVE = 23, 5, 4


class Run:
    """A run in a folder, as a script would do it: a checkpoint and a log."""

    def __init__(self, folder, backend, dtype):
        self.recipe = make_recipe(cosine_decay(1e-2, STEPS), weight=WEIGHT, max_grad_norm=1.0)
        self.folder, self.backend, self.dtype = folder, backend, dtype
        self.checkpoint, self.metrics = folder / "checkpoint.npz", folder / "metrics.jsonl"
        self.folder.mkdir(exist_ok=True)

    def go(self, steps=STEPS, *, ops=None, hook=lambda place, step: None):
        """Start, or go on from the checkpoint; ``hook`` is called wherever Ctrl-C may come."""
        draw = make_draw(self.backend, self.dtype)
        state = self.load() if self.checkpoint.exists() else start(self.recipe, self.backend, self.dtype)
        log = MetricsLog(self.metrics, state.step)

        def hooked_draw(step):
            hook("draw", step)
            return draw(step)

        def report(step, loss):
            hook("before the report", step)
            log.append({"step": step, "loss": loss})
            hook("after the report", step)

        def save(state):
            hook("before the save", state.step)
            save_checkpoint(self.checkpoint, self.recipe, state, {}, self.backend.to_numpy)
            hook("after the save", state.step)

        return train(
            self.recipe,
            state,
            hooked_draw,
            ops or self.backend.ops,
            steps=steps,
            report=report,
            report_every=REPORT,
            save=save,
            save_every=SAVE,
        )

    def load(self):
        def asarray(values):
            return self.backend.asarray(values, self.dtype)

        return load_checkpoint(self.checkpoint, self.recipe, {}, asarray)


@pytest.mark.parametrize("k", [1, 5, 7, 12, 22])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, backend, dtype, k):
    whole, parts = (Run(tmp_path / name, backend, dtype) for name in ("whole", "parts"))
    end = whole.go()
    halfway = parts.go(k)
    assert bits(parts.load()) == bits(halfway)
    assert bits(parts.go()) == bits(end) == bits(whole.load())
    resumed = [record for record in read_metrics(parts.metrics) if record["step"] != k or k == 5]
    assert resumed == read_metrics(whole.metrics)


def test_where_a_run_stops_does_not_show_in_its_state(backend, dtype):
    recipe, draw, seen = make_recipe(), make_draw(backend, dtype), {}
    train(
        recipe,
        start(recipe, backend, dtype),
        draw,
        backend.ops,
        steps=12,
        report_every=5,
        save=lambda state: seen.update({state.step: state}),
        save_every=1,
    )
    for k in (4, 5, 7):
        stopped = train(
            recipe, start(recipe, backend, dtype), draw, backend.ops, steps=k, report_every=5
        )
        assert bits(stopped) == bits(seen[k])


class Interrupt:
    """Presses Ctrl-C once, at a place of a step."""

    def __init__(self, place, step):
        self.at, self.done = (place, step), False

    def __call__(self, place, step):
        if not self.done and (place, step) == self.at:
            self.done = True
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("place", "step", "saved"),
    [
        *[("draw", k, k) for k in (0, 4, 5, 7, 22)],
        *[("before the report", k, k - 1) for k in (5, 10, 20, 23)],
        *[("after the report", k, k - 1) for k in (5, 10, 20, 23)],
        *[("before the save", k, k) for k in (4, 20, 23)],
        *[("after the save", k, k) for k in (4, 20, 23)],
    ],
)
def test_ctrl_c_saves_and_the_resumed_run_ends_in_the_same_bits(tmp_path, place, step, saved):
    numpy = get_backend("numpy")
    whole, parts = (Run(tmp_path / name, numpy, "float32") for name in ("whole", "parts"))
    end = whole.go()
    interrupt = Interrupt(place, step)
    with pytest.raises(KeyboardInterrupt):
        parts.go(hook=interrupt)
    assert interrupt.done
    assert parts.load().step == saved
    assert bits(parts.go()) == bits(end)
    assert parts.metrics.read_bytes() == whole.metrics.read_bytes()


@pytest.mark.parametrize(
    "operation", ["residual_mlp", "residual_mlp_backward", "squared_error", "adam", "ema", "in_parts"]
)
@pytest.mark.parametrize("step", [1, 5, 12])
def test_ctrl_c_within_a_step_does_not_half_take_it(tmp_path, operation, step):
    numpy = get_backend("numpy")
    whole, parts = (Run(tmp_path / name, numpy, "float32") for name in ("whole", "parts"))
    end, now = whole.go(), 0
    original = getattr(GENERIC, operation)

    def follow(place, step):
        nonlocal now
        now = step if place == "draw" else now

    def interrupted(*arguments):
        if now == step:
            raise KeyboardInterrupt
        return original(*arguments)

    with pytest.raises(KeyboardInterrupt):
        parts.go(ops=Ops(**{operation: interrupted}), hook=follow)
    assert parts.load().step == step
    assert bits(parts.go()) == bits(end)
    assert parts.metrics.read_bytes() == whole.metrics.read_bytes()


def test_ctrl_c_does_not_save_what_is_saved():
    recipe, numpy, saves = make_recipe(), get_backend("numpy"), []
    draw, stop = make_draw(numpy, "float64"), Interrupt("draw", 8)
    with pytest.raises(KeyboardInterrupt):
        train(
            recipe,
            start(recipe, numpy, "float64"),
            lambda step: (stop("draw", step), draw(step))[1],
            GENERIC,
            steps=10,
            save=lambda state: saves.append(state.step),
            save_every=4,
        )
    assert saves == [4, 8]


# --- divergence ---------------------------------------------------------------------------


def diverging(dtype):
    """Fine for eight steps."""
    huge = {"float32": 1e30, "float64": 1e200}[dtype]
    return make_recipe(lambda step: 1e-3 if step < 8 else huge)


def test_divergence_is_an_error_and_the_checkpoint_before_it_remains(tmp_path, backend, dtype):
    run = Run(tmp_path, backend, dtype)
    run.recipe = diverging(dtype)
    with pytest.raises(
        FloatingPointError, match=r"^training diverged by step 1[02]: .*learning rate$"
    ) as e:
        run.go(100)
    assert "\n" not in str(e.value)
    state = run.load()
    assert state.step == 8
    assert np.all(np.isfinite(state.params))
    assert [record["step"] for record in read_metrics(run.metrics)] == [5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.npz", "metrics.jsonl"]


def test_a_nan_in_the_data_is_an_error_at_the_next_report(backend, dtype):
    recipe, draw = make_recipe(), make_draw(backend, dtype)

    def poisoned(step):
        x0, t, noise = draw(step)
        return (x0 * (math.nan if step == 6 else 1.0), t, noise)

    saves = []
    with pytest.raises(FloatingPointError, match="by step 10"):
        train(
            recipe,
            start(recipe, backend, dtype),
            poisoned,
            backend.ops,
            steps=20,
            report_every=5,
            save=saves.append,
            save_every=5,
        )
    assert [state.step for state in saves] == [5]


def test_parameters_that_overflow_are_an_error_though_the_loss_is_finite():
    recipe, numpy = make_recipe(lambda step: math.inf), get_backend("numpy")
    draw, saves = make_draw(numpy, "float64"), []
    with pytest.raises(FloatingPointError, match="by step 1:"):
        train(
            recipe,
            start(recipe, numpy, "float64"),
            draw,
            GENERIC,
            steps=5,
            save=saves.append,
            save_every=1,
        )
    assert saves == []


def test_ctrl_c_does_not_save_a_state_that_diverged(tmp_path, backend, dtype):
    run = Run(tmp_path, backend, dtype)
    run.recipe = diverging(dtype)
    stop = Interrupt("draw", 11)
    with pytest.raises(KeyboardInterrupt):
        train(
            run.recipe,
            start(run.recipe, backend, dtype),
            lambda step: (stop("draw", step), make_draw(backend, dtype)(step))[1],
            backend.ops,
            steps=20,
            save=pytest.fail,
        )
    assert stop.done


def test_a_batch_is_cut_by_its_rows_and_their_pixels():
    asked = []

    def in_parts(function, size, pixels):
        asked.append((size, pixels))
        yield function(slice(0, size))

    recipe = SimpleNamespace(
        layout=SimpleNamespace(unravel=lambda flat: flat),
        weight=None,
        denoiser=None,
        loss_and_gradient=lambda *arguments: (1.0, np.zeros(3)),
    )
    x_t = np.zeros((4, 6, 5, 2))
    ops = dataclasses.replace(GENERIC, in_parts=in_parts)
    batch_gradient(recipe, np.zeros(3), x_t, np.ones(4, int), None, x_t, ops)
    assert asked == [(4, 30)]


def test_parts_that_do_not_fit_are_refused():
    recipe = make_recipe()
    with pytest.raises(
        ValueError, match=f"denoiser must be made for the schedule's T = {T}, got T = 7; .* by respacing"
    ):
        dataclasses.replace(recipe, denoiser=MLPDenoiser(2, 7))
    with pytest.raises(
        ValueError, match=f"denoiser must be made for the schedule's T = 30, got T = {T}"
    ):
        dataclasses.replace(recipe, schedule=scaled_linear_schedule(30))
    with pytest.raises(
        ValueError, match=f"weight must have length T \\+ 1 = {T + 1}, entry 0 unused, got 31"
    ):
        dataclasses.replace(recipe, weight=np.ones(31))
    with pytest.raises(TypeError, match="denoiser must have a method forward, got NoneType"):
        dataclasses.replace(recipe, denoiser=None)
    unaware = SimpleNamespace(forward=lambda params, x_t, t, ops: None)
    with pytest.raises(
        TypeError, match=r"forward\(params, x_t, t, ops, labels\), got .* \(params, x_t, t, ops\)"
    ):
        dataclasses.replace(recipe, denoiser=unaware)
    with pytest.raises(TypeError, match="optimizer must have a method update, got NoneType"):
        dataclasses.replace(recipe, optimizer=None)
    with pytest.raises(TypeError, match=r"schedule must be a ddpm_np\.Schedule"):
        dataclasses.replace(recipe, schedule=None)
    state = start(recipe, get_backend("numpy"), "float32")
    with pytest.raises(TypeError, match="x0 must have the parameters' dtype, float32, got float64"):
        train_step(recipe, state, *draw_batch(DATA.astype("float64"), T, BATCH, 0, 0), GENERIC)
    with pytest.raises(ValueError, match="flat must have shape"):
        predictor(recipe, state.params[:-1], GENERIC)


def test_a_list_of_weights_is_kept_as_a_table():
    recipe = make_recipe(weight=[0.0] + [2.0] * T)
    state = start(recipe, get_backend("numpy"), "float64")
    new = train_step(recipe, state, *draw_batch(DATA.astype("float64"), T, BATCH, 0, 0), GENERIC)
    assert math.isfinite(float(new.loss_sum))


@pytest.mark.parametrize("t", [3, np.array([3, 1, 25, 7, 7, 2, 9])], ids=["int", "each"])
def test_predictor_in_parts_is_the_whole(lib, t):
    recipe = make_recipe()
    params = lib.array(ravel(recipe.denoiser.init(np.random.default_rng(0))))
    x = lib.array(np.random.default_rng(1).standard_normal((7, 2)))
    whole = lib.host(predictor(recipe, params, GENERIC)(x, t))
    parts = lib.host(predictor(recipe, params, Ops(in_parts=parts_of(3)))(x, t))
    np.testing.assert_allclose(parts, whole, rtol=1e-12, atol=1e-14)
