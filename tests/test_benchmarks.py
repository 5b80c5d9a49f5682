"""The benchmarks' machinery, and that both sides of each work do the same. No test looks at a clock."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backends import BackendError, get_backend
from ddpm_np.nn.tree import tree_leaves

BENCHMARKS = Path(__file__).parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # they import their neighbours, as scripts do

import ours  # noqa: E402
import picture  # noqa: E402
import pool  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import spreads  # noqa: E402
import startup  # noqa: E402
import works  # noqa: E402

NUMPY = works.CPU[0]
STEPS, POINTS = 25, 40


# --- numbers and what is written about them -----------------------------------------------


def test_ratios_are_taken_within_rounds():
    """A machine three times slower in one round changes no ratio, though it changes the medians."""
    theirs = np.array([2.0, 6.0, 2.0, 2.0])
    assert spreads.ratios(0.5 * theirs, theirs) == (0.5, 0.5, 0.5)
    assert spreads.ratios([1.0, 9.0, 4.0], [1.0, 3.0, 2.0]) == (2.0, 1.0, 3.0)
    assert spreads.spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert spreads.fastest([[1.0, 5.0], [2.0, 4.0]]) == [1.0, 4.0]
    with pytest.raises(ValueError, match="no measurements"):
        spreads.spread([])
    with pytest.raises(ValueError, match="zip"):
        spreads.ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ([4e-8], "0.0400 µs (0.0400–0.0400)"),
        ([412e-6, 405e-6, 430.4e-6], "412 µs (405–430)"),
        ([1e-3], "1.00 ms (1.00–1.00)"),
        ([0.0123, 0.01], "11.2 ms (10.0–12.3)"),
        ([100.0, 1.0, 2000.0], "100 s (1–2000)"),
    ],
)
def test_times_have_three_digits_in_a_fitting_unit(seconds, text):
    assert report.cell(seconds, report.duration) == text


def fake_results(device="cpu"):
    """Numbers as run.py collects them; each contender's are its place, times the round."""
    contenders = works.contenders(device)
    everybody = [*contenders, *works.PRODUCTS[device]]
    rows = [
        {
            "part": work.part,
            "label": work.label,
            "threads": threads,
            "sizes": work.sizes,
            "units": work.units,
            "whole": work.whole,
            "flops": works.flops(work.products),
            "seconds": {
                one.name: [1e-3 * (place + 1) * factor for factor in (1.0, 1.5, 1.2)]
                for place, one in enumerate(everybody)
                if pool.takes_part(one, work)
            },
        }
        for threads in ([2] if device == "cuda" else [1, 2])
        for work in works.WORKS
    ]
    return {
        "command": "make bench",
        "date": "2000-01-01",
        "device": device,
        "machine": {"CPU": "a processor", "cores": "2"},
        "rounds": 3,
        "block": 0.5,
        "contenders": {one.name: one.label for one in contenders},
        "rows": rows,
        "startup": [
            {"label": "ours, numba", "cache": "empty", "loaded": [0.25], "first": [4.0]},
            {"label": "ours, numpy", "cache": "", "loaded": [0.25], "first": [0.5]},
        ],
        "memory": [{"label": "ours", "loaded": [2**26], "train": [2**27], "sample": [2**28]}],
    }


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_page_of_fake_numbers(device):
    text = report.page(fake_results(device), "images/benchmarks.png")
    assert "    make bench\n" in text
    assert "nan" not in text.lower()
    for work in works.WORKS:
        assert f"| {work.label} | " in text
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1, block
    assert "| 2.40 ms (2.00–3.00) |" in text
    assert "| ours | 64 MiB (64–64) | 128 MiB (128–128) | 256 MiB (256–256) |" in text
    assert "| ours, numba | empty | 250 ms (250–250) | 4.00 s (4.00–4.00) |" in text
    if device == "cpu":
        assert "## One thread" in text
        # numpy takes 1 and numba 2 where eager takes 3, in every round
        assert "| training step, batch 32 | 0.33 (0.33–0.33) | 0.67 (0.67–0.67) |" in text
        # whole chains take 1,000 times as long: seconds instead of milliseconds
        assert "| 10,000 samples, 1,000 steps | 1.20 s (1.00–1.50) |" in text
    else:
        formulas = next(line for line in text.splitlines() if "10⁶" in line)
        assert formulas.count("–") == 3 + 2  # three ranges; no graph, and no products


def test_page_of_parts():
    """Contenders and sections that were not measured are not in the page."""
    results = fake_results() | {"startup": [], "memory": []}
    del results["contenders"]["compiled"]
    text = report.page(results, "")
    assert "compiled" not in text.split("## How it was measured")[0]
    assert "Peak memory" not in text
    assert "![" not in text
    assert "## One thread" not in report.page(results | {"rows": []}, "")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_picture_of_fake_numbers(device, tmp_path):
    path = tmp_path / "images" / "benchmarks.png"
    picture.draw(fake_results(device), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_page_and_picture_are_written(tmp_path, capsys):
    run.write(fake_results(), tmp_path)
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    (link,) = re.findall(r"\]\((.*)\)", text)
    assert (tmp_path / link).exists()


# --- the command line ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "a,z"], "letters from a, b, c, d, e, f"),
        (["--only", ""], "letters from"),
        (["--rounds", "0"], "positive integer"),
        (["--rounds", "2.5"], "positive integer"),
        (["--gpu", "--only", "f"], "part f"),
        (["--from-json", "nothing/here.json"], "there is no file"),
        (["--json", str(BENCHMARKS)], "must name a file"),
        (["--fast"], "unrecognized arguments"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.parse(arguments)
    assert message in capsys.readouterr().err


def test_the_page_is_written_only_after_everything_or_when_asked():
    assert run.parse([]).write
    for partly in (["--quick"], ["--only", "a"], ["--rounds", "2"]):
        assert not run.parse(partly).write
        assert run.parse([*partly, "--write"]).write
    assert run.parse(["--only", "c, a"]).only == "ca"


def test_without_a_gpu_one_sentence_and_status_2():
    try:
        get_backend("cupy")
    except BackendError:
        pass
    else:
        pytest.skip("there is a GPU")
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--gpu"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("run.py: error: there is no GPU to measure on")
    assert done.stderr.count("\n") == 1


# --- the workers --------------------------------------------------------------------------


def test_a_worker_survives_what_it_cannot_do(capfd):
    with pool.opened([NUMPY], "cpu", 1) as [worker]:
        for arguments in ({"function": "nothing", "sizes": {}}, {"function": "train", "sizes": {}}):
            with pytest.raises(pool.WorkerError, match="ours, numpy: "):
                worker.ask("prepare", **arguments, block=1e-6)
        with pytest.raises(pool.WorkerError, match="nothing is prepared"):
            worker.ask("measure")
        with pytest.raises(pool.WorkerError, match="no such request"):
            worker.ask("dance")
        assert worker.ask("prepare", function="train", sizes={"batch": 4}, block=1e-6)["repeats"] >= 1
        assert worker.ask("measure")["seconds"] > 0.0
    assert worker.process.returncode == 0


def test_a_worker_that_is_gone_is_one_sentence():
    with pool.opened([NUMPY], "cpu", 1) as [worker]:
        worker.process.kill()
        with pytest.raises(pool.WorkerError, match="ours, numpy: the process ended with status -9"):
            worker.ask("measure")


def test_a_row_is_measured(monkeypatch):
    monkeypatch.setattr(pool, "PAUSE", 0.0)
    work = works.Work("a", "tiny", "train", {"batch": 4}, works.training_products(4), units=2)
    contenders = [NUMPY, *(one for one in works.PRODUCTS["cpu"] if "numpy" in one.name)]
    with pool.opened(contenders, "cpu", 2) as workers:
        seconds = pool.measure(workers, work, rounds=3, block=1e-6)
    assert list(seconds) == ["numpy", "numpy-products", "numpy-blocks"]
    assert all(len(found) == 3 and min(found) > 0.0 for found in seconds.values())


def test_threads_of_the_contenders():
    def blas(contender):
        return pool.environment(contender, 4)["OPENBLAS_NUM_THREADS"]

    for contender in [*works.CPU, *works.PRODUCTS["cpu"]]:
        assert pool.environment(contender, 4)["OMP_NUM_THREADS"] == "4"
        assert blas(contender) == ("1" if contender.name in ("numba", "numpy-blocks") else "4")


def test_a_fresh_process(tmp_path):
    done = startup.fresh(NUMPY, "cpu", 1, str(tmp_path), "train", {"batch": 4}, 2)
    assert 0.0 < done["loaded"] < done["wall"]
    assert 2**20 < done["memory_loaded"] <= done["memory"]
    with pytest.raises(pool.WorkerError, match="ended with status 1"):
        startup.fresh(NUMPY, "cpu", 1, str(tmp_path), "nothing", {}, 1)


# --- both sides do the same ---------------------------------------------------------------


def cpu_backend(name):
    try:
        return get_backend(name)
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    return cpu_backend(request.param)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def context(torch):
    import peers

    threads = torch.get_num_threads()
    yield peers.open_context("eager", "cpu", threads)
    torch.set_num_threads(threads)


def weights_of(torch, backend, T):
    """The parameters that ours starts from, as PyTorch's."""
    recipe = ours.make_recipe(T)
    state = ours.init_state(recipe, ours.SEED, ours.on_device(backend))
    weight, time_weight, bias, hidden, hidden_bias, last, last_bias = (
        torch.from_numpy(np.array(leaf)) for leaf in tree_leaves(recipe.layout.unravel(state.params))
    )
    return {
        "first.weight": torch.cat([weight, time_weight]).T,
        "first.bias": bias,
        **{f"hidden.{layer}.weight": matrix.T for layer, matrix in enumerate(hidden)},
        **{f"hidden.{layer}.bias": values for layer, values in enumerate(hidden_bias)},
        "last.weight": last.T,
        "last.bias": last_bias,
    }


def assert_close(found, expected):
    """To the roundings of float32, over five layers and a chain of 25 steps."""
    np.testing.assert_allclose(found, np.asarray(expected), rtol=2e-4, atol=2e-4)


@pytest.mark.peers
def test_training_steps_are_the_same(torch, context, backend):
    import peers

    draw = ours.batches(works.swiss_roll(), works.T, 32, ours.SEED)
    drawn = iter(range(3))

    def same_batch():
        return tuple(torch.from_numpy(np.array(part)) for part in draw(next(drawn)))

    weights = weights_of(torch, backend, works.T)
    our_step = ours.train(backend, 32)
    their_step = peers.train(context, 32, weights=weights, draw=same_batch)
    total = 0.0
    for _ in range(3):  # the first is a loss, the next depend on the gradients and on Adam
        total += their_step().item()
        assert float(our_step()) == pytest.approx(total, rel=1e-5)


@pytest.mark.peers
def test_training_steps_on_images_are_the_same(torch, context, backend):
    import peers
    from torch_images import ImageDenoiser

    draw = ours.batches(works.images(), works.T, 8, ours.SEED)
    drawn = iter(range(3))

    def same_batch():
        x0, t, noise = (torch.from_numpy(np.array(part)) for part in draw(next(drawn)))
        return x0.permute(0, 3, 1, 2), t, noise.permute(0, 3, 1, 2)

    recipe = ours.image_recipe(16)
    state = ours.init_state(recipe, ours.SEED, ours.on_device(backend))
    net = ImageDenoiser(works.T, 16)
    leaves = tree_leaves(recipe.layout.unravel(state.params))
    with torch.no_grad():
        for param, leaf in zip(net.parameters(), leaves, strict=True):
            order = (3, 2, 0, 1) if leaf.ndim == 4 else tuple(reversed(range(leaf.ndim)))
            param.copy_(torch.from_numpy(np.array(leaf)).permute(order))
    our_step = ours.train_images(backend, 8, 16)
    their_step = peers.train_images(context, 8, 16, net=net, draw=same_batch)
    total = 0.0
    for _ in range(3):
        total += their_step().item()
        assert float(our_step()) == pytest.approx(total, rel=1e-5)


@pytest.mark.peers
def test_samples_are_the_same(torch, context, backend):
    import peers

    noise = ours.normal(backend, ours.SAMPLE, POINTS)
    walk = peers.sample(
        context,
        POINTS,
        STEPS,
        weights=weights_of(torch, backend, STEPS),
        noise=lambda t: torch.from_numpy(noise(t)),
    )
    expected = ours.sample(backend, POINTS, STEPS)()
    assert expected.shape == (POINTS, works.DIMENSIONS)
    assert_close(expected, walk())


@pytest.mark.peers
def test_bounds_are_the_same(torch, context, backend):
    import peers

    noise = ours.normal(backend, ours.BOUND, POINTS)
    bound = peers.decompose(
        context,
        POINTS,
        STEPS,
        weights=weights_of(torch, backend, STEPS),
        noise=lambda t: torch.from_numpy(noise(t)),
    )
    found, expected = ours.decompose(backend, POINTS, STEPS)(), bound()
    assert found.L.shape == (STEPS + 1, POINTS)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@pytest.mark.peers
def test_formulas_are_the_same(torch, context, backend):
    import peers

    arguments = tuple(map(torch.from_numpy, ours.formula_arguments(POINTS, STEPS)))
    expected = peers.formulas(context, POINTS, STEPS, arguments=arguments)()
    for one, other in zip(ours.formulas(backend, POINTS, STEPS)(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.peers
def test_parameters_are_as_many(torch):
    import torch_model

    theirs = sum(param.numel() for param in torch_model.Denoiser(works.T).parameters())
    assert ours.init_state(ours.make_recipe(works.T), 0, np.asarray).params.size == theirs


@pytest.mark.peers
def test_products_are_those_that_the_table_counts(torch, context):
    """PyTorch counts its own; ours, run on its arrays, too: one more, the first layer's dx."""
    import peers
    from torch.utils.flop_counter import FlopCounterMode

    def counted(step):
        with FlopCounterMode(display=False) as counter:
            step()
        return counter.get_total_flops()

    def tensor(values, dtype):
        return torch.tensor(np.array(values), dtype=getattr(torch, dtype))

    numpy = get_backend("numpy")
    on_torch = dataclasses.replace(
        numpy, asarray=tensor, normal=lambda *key: tensor(numpy.normal(*key), "float32")
    )
    batch = 32
    needed = works.flops(works.training_products(batch))
    assert counted(peers.train(context, batch)) == needed
    extra = 2 * batch * works.DIMENSIONS * works.WIDTH
    assert needed <= counted(ours.train(on_torch, batch)) <= needed + extra

    time_row = 2 * works.EMBEDDING * works.WIDTH
    needed = STEPS * (works.flops(works.forward_products(POINTS, one_time=True)) + time_row)
    for work in ("sample", "decompose"):
        assert counted(getattr(ours, work)(on_torch, POINTS, STEPS)) == needed
        assert counted(getattr(peers, work)(context, POINTS, STEPS)) == needed


@pytest.mark.peers
def test_products_alone_have_the_shapes_that_are_counted(torch):
    import products

    for product in works.training_products(6):
        left, right = products.shapes(product)
        assert left == ((product.k, product.m) if product.kind == "xtd" else (product.m, product.k))
        assert right == ((product.n, product.k) if product.kind == "dwt" else (product.k, product.n))
    for name in ("numpy-products", "numpy-blocks", "torch-products"):
        context = products.open_context(name, "cpu", torch.get_num_threads())
        products.multiply(context, [list(p) for p in works.training_products(6)])()


@pytest.mark.peers
def test_every_work_has_both_sides(torch):
    import graphs
    import peers

    for work in works.WORKS:
        assert callable(getattr(ours, work.function))
        assert callable(getattr(peers, work.function))
        for contender in works.CUDA:
            if contender.module == "graphs" and pool.takes_part(contender, work):
                assert callable(getattr(graphs, work.function))
