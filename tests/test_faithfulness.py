"""Fidelity without retraining: closed forms, the papers' formulas written out pixel by pixel, and Captum's numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import infidelity_perturb_func_decorator, sensitivity_max
from scipy import ndimage
from torch import Tensor, nn

from metrics.attribution import Explained, explain
from metrics.case import Case, Scores
from metrics.fidelity import _flipping
from metrics.fidelity.deletion import deletion
from metrics.fidelity.infidelity import _PERTURBATIONS, infidelity
from metrics.fidelity.insertion import insertion
from metrics.fidelity.pixel_flipping import pixel_flipping
from metrics.fidelity.road import road
from metrics.fidelity.sensitivity import sensitivity
from metrics.fill import filled
from metrics.importance import places
from metrics.randomness import Draws

CURVES = (deletion, insertion, pixel_flipping, road)
EVERY = (*CURVES, infidelity, sensitivity)
Metric = Callable[..., Scores]


class Net(nn.Module):
    """A small smooth network that looks at every pixel in its own way."""

    def __init__(self, shape: tuple[int, ...] = (2, 5, 6), classes: int = 4) -> None:
        super().__init__()
        channels, height, width = shape
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.convolution = nn.Conv2d(channels, 8, 3, padding=1)
            self.head = nn.Linear(8 * height * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = torch.tanh(2 * self.convolution(4 * (x - 0.5)))
        return 4 * self.head(features.flatten(1))


class Linear(nn.Module):
    """Logits W x, weights (K, C, H, W)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.flatten(1).T


def normal(*shape: int, seed: int = 0) -> Tensor:
    return Draws(seed, torch.arange(shape[0])).normal(*shape[1:])


def case(
    model: nn.Module,
    n: int = 6,
    shape: tuple[int, ...] = (2, 5, 6),
    classes: int = 4,
    seed: int = 0,
) -> Case:
    ids = torch.arange(n + 5)
    x = Draws(1, ids).uniform(*shape)
    x[:, :1] *= 0.8  # channels of different means
    return Case(
        model=model.eval().requires_grad_(False), x=x[:n], y=ids[:n] % classes,
        draws=Draws(seed, ids[:n]), train_x=x[n:], train_draws=Draws(seed, ids[n:]),
        threat=None, classes=classes, grade=lambda _: {},
        refit=None, manifold=lambda: None, surrogate=lambda _: model,  # type: ignore[arg-type, return-value]
    )  # fmt: skip


def images(c: Case, index: slice | Tensor) -> Case:
    return replace(c, x=c.x[index], y=c.y[index], draws=c.draws[index])


# ---- the order of the pixels


@pytest.mark.parametrize("levels", [0, 1, 3, 1000])
def test_places_are_a_permutation_by_falling_importance(levels: int) -> None:
    importance = (levels * normal(7, 5, 6)).round()
    draws = Draws(2, torch.arange(7))
    order = places(importance, draws)
    assert torch.equal(order.flatten(1).sort(1).values, torch.arange(30).expand(7, 30))
    falling = importance.flatten(1).gather(1, order.flatten(1).argsort(1))
    assert (falling.diff(dim=1) <= 0).all()


def test_pixels_are_ordered_for_a_batch_of_images_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 224 pixels the order of an image is larger than the image."""
    seen = []

    def noted(importance: Tensor, draws: Draws) -> Tensor:
        seen.append(len(importance))
        return places(importance, draws)

    monkeypatch.setattr(_flipping, "places", noted)
    deletion(case(Recorder(), n=20, shape=(1, 4, 4), classes=2), steps=15)
    assert seen == [15, 5]


class Recorder(nn.Module):
    """Keeps the images that it is shown; its maps are tied everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:
            self.shown.append(x.detach().clone())
        return torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)


def test_all_tied_maps_remove_exactly_the_asked_number() -> None:
    model = Recorder()
    c = case(model, n=5, shape=(3, 5, 5), classes=2)
    scores = road(c)
    fractions = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
    first, *orders = model.shown
    assert torch.equal(first, c.x)
    assert len(orders) == 2
    for shown in orders:
        changed = (shown.view(5, 7, 3, 5, 5) != c.x[:, None]).any(2)
        assert changed.sum((2, 3)).tolist() == [[round(p * 25) for p in fractions]] * 5
        assert len(changed[:, 3].flatten(1).unique(dim=0)) == 5, "other pixels for other images"
        assert (changed[:, 1:] | ~changed[:, :-1]).all(), "what is removed stays removed"
    assert scores["score"].tolist() == [0.0] * 5


# ---- the curves, one image and one pixel at a time


def ranked(
    c: Case, i: int, attribution: str, target: Tensor, signed: bool = False
) -> list[tuple[int, int]]:
    """Pixels of image i, most important first."""
    maps = explain(c.model, c.x, c.draws, attribution=attribution, target=target)
    a = (maps[i] if signed else maps[i].abs()).double().sum(0)
    rows, columns = a.shape
    return sorted(
        ((r, k) for r in range(rows) for k in range(columns)), key=lambda at: -a[at].item()
    )


def literal_curve(
    c: Case, i: int, order: list[tuple[int, int]], start: Tensor, end: Tensor,
    counts: list[int], output: str, label: int,
) -> list[float]:  # fmt: skip
    """From `start`, the first pixels of the order become those of `end`."""
    model, points = c.model.double(), []
    for count in counts:
        image = start.double().clone()
        for row, column in order[:count]:
            image[:, row, column] = end[:, row, column].double()
        z = model(image[None])[0]
        others = [z[k] for k in range(len(z)) if k != label]
        points.append(
            {
                "probability": math.exp(z[label]) / sum(math.exp(v) for v in z),
                "logit": float(z[label]),
                "margin": float(z[label] - max(others)),
                "accuracy": float(all(z[label] > v for v in others)),
            }[output]
        )
    c.model.float()
    return points


def trapezoid(points: list[float]) -> float:
    return (sum(points) - points[0] / 2 - points[-1] / 2) / (len(points) - 1)


def blurred_literally(image: Tensor) -> Tensor:
    """The authors' kernel of 11x11 pixels, cut and renormalised where it leaves the image."""
    point = np.zeros((11, 11))
    point[5, 5] = 1
    kernel = ndimage.gaussian_filter(point, 5)
    out, (_, height, width) = torch.zeros_like(image), image.shape
    for i, j in itertools.product(range(height), range(width)):
        total = 0.0
        for a, b in itertools.product(range(height), range(width)):
            if abs(a - i) <= 5 and abs(b - j) <= 5:
                weight = float(kernel[5 + a - i, 5 + b - j])
                out[:, i, j] += weight * image[:, a, b]
                total += weight
        out[:, i, j] /= total
    return out


def assert_curve(scores: Scores, name: str, i: int, expected: list[float], steps: int) -> None:
    got = [float(scores[f"{name}@{k / steps:g}"][i]) for k in range(steps + 1)]
    assert got == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("target", "attribution", "reduction"),
    [("predicted", "gradient", "sum_abs"), ("true", "smoothgrad", "sum")],
)
def test_deletion_and_insertion_literally(target: str, attribution: str, reduction: str) -> None:
    c = case(Net((2, 14, 4)), shape=(2, 14, 4))
    labels = c.y if target == "true" else c.model(c.x).argmax(1)
    settings = {"attribution": attribution, "reduction": reduction, "steps": 8, "target": target}
    removed, inserted = deletion(c, **settings), insertion(c, **settings)
    counts = [round(k / 8 * 56) for k in range(9)]
    for i, image in enumerate(c.x):
        order, label = ranked(c, i, attribution, labels, reduction == "sum"), int(labels[i])
        black, blurred = torch.zeros_like(image), blurred_literally(image.double())
        for scores, start, end in ((removed, image, black), (inserted, blurred, image)):
            expected = literal_curve(c, i, order, start, end, counts, "probability", label)
            assert_curve(scores, "probability", i, expected, 8)
            assert float(scores["auc"][i]) == pytest.approx(trapezoid(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("output", "reduction"),
    [("probability", "sum_abs"), ("logit", "sum"), ("margin", "sum_abs"), ("accuracy", "sum")],
)
def test_pixel_flipping_literally(output: str, reduction: str) -> None:
    c = case(Net())
    labels = c.model(c.x).argmax(1)
    scores = pixel_flipping(c, output=output, reduction=reduction, steps=6)
    mean = c.train_x.mean((0, 2, 3))[:, None, None].expand(2, 5, 6)
    for i, image in enumerate(c.x):
        order = ranked(c, i, "gradient", labels, reduction == "sum")
        areas = {}
        for name, way in (("morf", order), ("lerf", order[::-1])):
            counts = [round(k / 6 * 30) for k in range(7)]
            expected = literal_curve(c, i, way, image, mean, counts, output, int(labels[i]))
            assert_curve(scores, name, i, expected, 6)
            areas[name] = trapezoid(expected)
        assert float(scores["srg"][i]) == pytest.approx(areas["lerf"] - areas["morf"], abs=2e-5)
        assert float(scores["morf_auc"][i]) == pytest.approx(areas["morf"], abs=2e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_road_literally(channels: int) -> None:
    c = case(Net((channels, 6, 5)), n=12, shape=(channels, 6, 5))
    labels, percents = c.model(c.x).argmax(1), (20, 50, 70)
    c = replace(c, y=labels.where(torch.arange(12) % 4 > 0, c.y))  # right for most images
    scores = road(c, percents=percents)
    mean = c.train_x.mean((0, 2, 3))
    for i, image in enumerate(c.x):
        order = ranked(c, i, "gradient", labels)
        accuracy: dict[str, list[float]] = {"morf": [], "lerf": []}
        for percent in percents:
            for name, way in (("morf", order), ("lerf", order[::-1])):
                removed = torch.zeros(1, 6, 5, dtype=torch.bool)
                for at in way[: round(percent / 100 * 30)]:
                    removed[0][at] = True
                shown = filled(
                    image[None], removed, "noisy_linear", mean=mean, draws=c.draws[i : i + 1]
                )
                accuracy[name].append(float(c.model(shown).argmax() == c.y[i]))
                got = scores[f"{name}_accuracy@{percent / 100:g}"]
                assert float(got[i]) == accuracy[name][-1]
        gains = [0.0, *(b - a for a, b in zip(*accuracy.values(), strict=True)), 0.0]
        at = (0, 0.2, 0.5, 0.7, 1)
        area = sum((at[k + 1] - at[k]) * (gains[k] + gains[k + 1]) / 2 for k in range(4))
        assert float(scores["score"][i]) == pytest.approx(area, abs=1e-6)
    assert scores["score"].abs().sum() > 0


@pytest.mark.parametrize("fill", ["zero", "noise", "blur", "noisy_linear"])
def test_pixel_flipping_replaces_by_the_fill(fill: str) -> None:
    model = Recorder()
    c = case(model, n=3, shape=(1, 4, 4), classes=2)
    pixel_flipping(c, fill=fill, steps=4)
    shown = model.shown[1].view(3, 5, 1, 4, 4)
    order = places(torch.zeros(3, 4, 4), c.draws)
    for k in range(5):
        expected = filled(c.x, order < 4 * k, fill, mean=c.train_x.mean((0, 2, 3)), draws=c.draws)
        torch.testing.assert_close(shown[:, k], expected, rtol=0, atol=1e-5)


# ---- closed forms


def test_the_curves_of_a_linear_model_are_sums_of_its_sorted_weights() -> None:
    weight = normal(3, 1, 4, 5).abs()
    weight[0] += 1  # always predicted
    c = case(Linear(weight), n=2, shape=(1, 4, 5), classes=3)
    c = replace(c, x=torch.ones_like(c.x))
    scores = pixel_flipping(c, of="logit", output="logit", fill="zero", steps=20)
    ascending = weight[0].flatten().sort().values
    kept_least, kept_most = ascending.cumsum(0).flip(0), ascending.flip(0).cumsum(0).flip(0)
    for name, kept in (("morf", kept_least), ("lerf", kept_most)):
        expected = [*kept.tolist(), 0.0]
        for i in range(2):
            assert_curve(scores, name, i, expected, 20)
    gain = float((kept_most - kept_least).sum() / 20)
    assert scores["srg"].tolist() == pytest.approx([gain, gain], rel=1e-5)
    assert gain > 0


@pytest.mark.parametrize("metric", [pixel_flipping, road])
def test_random_maps_gain_nothing_in_the_mean(metric: Metric) -> None:
    c = case(Net((1, 6, 6)), n=600, shape=(1, 6, 6), seed=1)
    c = replace(c, y=c.model(c.x).argmax(1))
    settings = {"steps": 6} if metric is pixel_flipping else {"percents": (30, 60)}
    score = next(iter(metric(c, attribution="random", **settings).values()))
    error = float(score.std() / math.sqrt(len(score)))
    assert error > 0
    assert abs(float(score.mean())) < 3 * error


def test_a_map_that_knows_the_model_beats_a_random_one() -> None:
    """On a model that sees a few pixels only, every measure must tell the gradient from noise."""
    weight = torch.zeros(3, 1, 6, 6)
    weight[:, :, 2:4, 1:3] = 4 * normal(3, 1, 2, 2)
    c = case(Linear(weight), n=60, shape=(1, 6, 6), classes=3)
    c = replace(c, y=c.model(c.x).argmax(1))
    for metric, name, sign in (
        (deletion, "auc", -1), (insertion, "auc", 1), (pixel_flipping, "srg", 1), (road, "score", 1),
        (infidelity, "relative_infidelity", -1), (sensitivity, "sensitivity_max", -1),
    ):  # fmt: skip
        known, blind = (metric(c, attribution=a)[name].mean() for a in ("gradient", "random"))
        assert sign * (known - blind) > 0.01, metric.__name__


def test_a_constant_map_gains_nothing_at_all() -> None:
    c = case(Linear(normal(3, 1, 4, 5).sign()), shape=(1, 4, 5), classes=3)
    assert pixel_flipping(c, of="logit")["srg"].tolist() == [0.0] * 6
    assert road(c, of="logit")["score"].tolist() == [0.0] * 6


@pytest.mark.parametrize("perturbation", list(_PERTURBATIONS))
@pytest.mark.parametrize("normalise", [True, False])
def test_the_gradient_of_a_linear_model_is_faithful_and_stable(
    perturbation: str, normalise: bool
) -> None:
    c = case(Linear(normal(4, 2, 5, 6)))
    settings = {"of": "logit", "perturbation": perturbation, "normalise": normalise}
    for name, values in infidelity(c, **settings).items():
        assert values.abs().max() < 1e-9, name
    assert sensitivity(c, of="logit")["sensitivity_max"].tolist() == [0.0] * 6


def test_infidelity_of_random_maps_and_of_other_scales() -> None:
    weight = normal(3, 1, 8, 8)
    c = case(Linear(weight), n=400, shape=(1, 8, 8), classes=3)
    blind = infidelity(c, of="logit", attribution="random", samples=20)["relative_infidelity"]
    # two unrelated directions share 1/64 of 64 pixels, and the fitted scale takes 1/20 of the rest
    expected, error = (1 - 1 / 64) * (1 - 1 / 20), float(blind.std() / math.sqrt(400))
    assert float(blind.mean()) == pytest.approx(expected, abs=3 * error)

    one, ten = (
        infidelity(
            images(replace(c, model=Linear(k * weight)), slice(0, 5)),
            of="logit",
            attribution="random",
        )
        for k in (1, 10)
    )
    torch.testing.assert_close(ten["relative_infidelity"], one["relative_infidelity"])
    torch.testing.assert_close(ten["infidelity"], 100 * one["infidelity"])


def test_a_map_times_the_image_counts_as_the_map() -> None:
    c = case(Net())
    own, times = (infidelity(c, attribution=a) for a in ("gradient", "gradient_x_input"))
    for name in own:
        torch.testing.assert_close(own[name], times[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_the_scale_of_the_logits_does_not_change_the_sensitivity(scale: float) -> None:
    class Scaled(Net):
        factor = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.factor

    model = Scaled()
    c = case(model)
    one = sensitivity(c, of="logit")["sensitivity_max"]
    model.factor = scale
    torch.testing.assert_close(
        sensitivity(c, of="logit")["sensitivity_max"], one, rtol=1e-4, atol=0
    )


def test_random_maps_are_as_unstable_as_two_of_them_are_apart() -> None:
    c = case(Linear(normal(3, 1, 16, 16)), n=20, shape=(1, 16, 16), classes=3)
    found = sensitivity(c, attribution="random", samples=1)["sensitivity_max"]
    assert found.mean() == pytest.approx(math.sqrt(2), abs=0.05)


def test_noise_is_of_sigma_and_the_noisy_baseline_is_black() -> None:
    x, draws = Draws(1, torch.arange(50)).uniform(3, 8, 8), Draws(0, torch.arange(50))
    noise = _PERTURBATIONS["gaussian"](x, 4, 0.3, draws)
    assert noise.shape == (50, 4, 3, 8, 8)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.3, abs=0.01)
    left = x[:, None] - _PERTURBATIONS["noisy_baseline"](x, 4, 0.3, draws)
    torch.testing.assert_close(left, noise.clamp(0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 28, 20), (1, 4, 4), (1, 1, 3)])
def test_squares_are_squares_in_the_image(shape: tuple[int, ...]) -> None:
    x = torch.ones(2000, *shape)
    removed = _PERTURBATIONS["square"](x, 3, 0.2, Draws(0, torch.arange(2000)))
    assert set(removed.unique().tolist()) <= {0.0, 1.0}
    largest = max(1, round(min(shape[1:]) * 10 / 28))
    sides = set()
    for one in removed[:100].flatten(0, 1):
        assert (one == one[:1]).all(), "the same in all channels"
        rows, columns = one[0].any(1).nonzero().flatten(), one[0].any(0).nonzero().flatten()
        assert len(rows) == len(columns) == math.isqrt(int(one[0].sum()))
        sides.add(len(rows))
    assert sides == set(range(1, largest + 1))
    assert removed.flatten(0, 1).amax(0).all(), "every pixel is in one of them"


# ---- written out in double precision, and Captum on the same input


def literal_infidelity(
    c: Case, i: int, perturbation: str, samples: int, normalise: bool
) -> list[float]:
    label = int(c.model(c.x[i : i + 1]).argmax())
    a = explain(c.model, c.x[i : i + 1], c.draws[i : i + 1])[0].double()
    taken = _PERTURBATIONS[perturbation](
        c.x[i : i + 1], samples, 0.2, c.draws[i : i + 1].fork("perturbation")
    )[0]
    model = c.model.double()

    def scalar(image: Tensor) -> float:
        z = model(image[None])[0]
        return float(z[label]) - math.log(sum(math.exp(z[k]) for k in range(len(z)) if k != label))

    x = c.x[i].double()
    said = [float((t.double() * a).sum()) for t in taken]
    came = [scalar(x) - scalar(x - t.double()) for t in taken]
    c.model.float()
    products, squares = (
        sum(p * q for p, q in zip(said, other, strict=True)) for other in (came, said)
    )
    beta = products / squares if normalise else 1.0
    error = sum((beta * p - q) ** 2 for p, q in zip(said, came, strict=True)) / samples
    return [error / (sum(q * q for q in came) / samples), error]


@pytest.mark.parametrize("perturbation", list(_PERTURBATIONS))
@pytest.mark.parametrize("normalise", [True, False])
def test_infidelity_literally_and_as_captum(perturbation: str, normalise: bool) -> None:
    c, samples = case(Net(), n=5), 12
    got = infidelity(c, perturbation=perturbation, samples=samples, normalise=normalise)
    for i in range(5):
        expected = literal_infidelity(c, i, perturbation, samples, normalise)
        found = [float(got["relative_infidelity"][i]), float(got["infidelity"][i])]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-9)

    double = replace(c, model=c.model.double(), x=c.x.double())
    target = double.model(double.x).argmax(1)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        taken = _PERTURBATIONS[perturbation](double.x, samples, 0.2, c.draws.fork("perturbation"))
        taken = taken.flatten(0, 1).double()
        return taken, inputs - taken

    def scalar(x: Tensor) -> Tensor:
        return Explained(double.model, target.repeat_interleave(len(x) // 5))(x)

    maps = explain(double.model, double.x, c.draws)
    theirs = captum_infidelity(
        scalar, perturb, double.x, maps, n_perturb_samples=samples, normalize=normalise
    )
    ours = infidelity(double, perturbation=perturbation, samples=samples, normalise=normalise)
    torch.testing.assert_close(ours["infidelity"].double(), theirs, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("attribution", "baseline"),
    [("gradient_x_input", 0.5), ("integrated_gradients", 0.0), ("deeplift", 0.0)],
)
def test_infidelity_of_a_map_times_the_image_as_captum(attribution: str, baseline: float) -> None:
    c, samples = case(Net().double(), n=5), 12
    c = replace(c, x=c.x.double())
    target = c.model(c.x).argmax(1)

    @infidelity_perturb_func_decorator(multiply_by_inputs=True)
    def perturb(inputs: Tensor, baselines: object = None) -> Tensor:
        taken = _PERTURBATIONS["gaussian"](c.x, samples, 0.2, c.draws.fork("perturbation"))
        return inputs - taken.flatten(0, 1).double()

    def scalar(x: Tensor) -> Tensor:
        return Explained(c.model, target.repeat_interleave(len(x) // 5))(x)

    maps = explain(c.model, c.x, c.draws, attribution=attribution)
    theirs = captum_infidelity(
        scalar, perturb, c.x, maps, baselines=baseline, n_perturb_samples=samples, normalize=True
    )
    ours = infidelity(c, attribution=attribution, samples=samples)["infidelity"]
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("attribution", "baseline"),
    [
        ("gradient", 0.3),
        ("gradient_x_input", 0.5),
        ("integrated_gradients", 0.0),
        ("deeplift", 0.0),
    ],
)
def test_infidelity_of_a_linear_model_is_zero_also_where_the_image_is_the_baseline(
    attribution: str, baseline: float
) -> None:
    c = case(Linear(normal(4, 2, 5, 6)), n=5)
    c.x[:, :, ::2] = baseline
    got = infidelity(c, attribution=attribution, of="logit")
    assert got["relative_infidelity"].max() < 1e-6


@pytest.mark.parametrize("attribution", ["gradient", "integrated_gradients"])
def test_sensitivity_literally_and_as_captum(attribution: str) -> None:
    c, samples, radius = case(Net(), n=5), 4, 0.1
    got = sensitivity(c, attribution=attribution, radius=radius, samples=samples)["sensitivity_max"]
    target = c.model(c.x).argmax(1)
    seed = c.draws.fork("copy").seed
    noise = torch.stack(
        [
            Draws(seed, torch.tensor([i * samples + k])).fork("noise").uniform(2, 5, 6)[0]
            for i in range(5)
            for k in range(samples)
        ]
    )
    noise = radius * (2 * noise - 1)
    assert noise.abs().max() <= radius

    def maps(x: Tensor, label: Tensor) -> Tensor:
        return explain(
            c.model, x, Draws(0, torch.arange(len(x))), attribution=attribution, target=label
        )

    for i in range(5):
        own = maps(c.x[i : i + 1], target[i : i + 1])[0].double()
        changes = []
        for k in range(samples):
            near = maps(c.x[i : i + 1] + noise[i * samples + k], target[i : i + 1])[0].double()
            changes.append(math.sqrt(float(((near - own) ** 2).sum())))
        expected = max(changes) / math.sqrt(float((own**2).sum()))
        assert float(got[i]) == pytest.approx(expected, rel=1e-4)

    def attribute(inputs: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:
        """Captum wants back what it gave."""
        if isinstance(inputs, tuple):
            return (maps(inputs[0], target),)
        return maps(inputs, target.repeat_interleave(samples))

    theirs = sensitivity_max(
        attribute, c.x, perturb_func=lambda inputs: inputs + noise, n_perturb_samples=samples
    )
    torch.testing.assert_close(got, theirs, rtol=1e-4, atol=1e-6)


# ---- images and maps of every kind


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize(
    ("n", "shape", "classes"),
    [
        (4, (1, 6, 6), 10),
        (4, (3, 6, 6), 10),
        (1, (3, 5, 7), 3),
        (3, (1, 4, 9), 2),
        (2, (3, 1, 1), 2),
    ],
)
def test_colours_shapes_and_classes(
    metric: Metric, n: int, shape: tuple[int, ...], classes: int
) -> None:
    c = case(Net(shape, classes), n=n, shape=shape, classes=classes)
    whole, alone = metric(c), metric(images(c, slice(n - 1, n)))
    for name, values in whole.items():
        assert values.shape == (n,)
        assert values.dtype == torch.float32
        assert values.isfinite().all(), name
        torch.testing.assert_close(values[-1:], alone[name], rtol=1e-4, atol=1e-5)


class SometimesNaN(nn.Module):
    """Not a number for images whose first pixel is bright."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * torch.ones(()).where(x[:, :1, 0, 0] < 2, torch.nan)


@pytest.mark.parametrize("metric", EVERY)
def test_a_map_that_is_not_a_number_has_no_score(metric: Metric) -> None:
    c = case(SometimesNaN(Net()))
    clean = metric(c)
    c.x[2, 0, 0, 0] = 3.0
    for name, values in metric(c).items():
        assert values.isnan().tolist() == [i == 2 for i in range(6)], name
        others = torch.arange(6) != 2
        torch.testing.assert_close(values[others], clean[name][others], rtol=1e-5, atol=1e-6)


class Steps(nn.Module):
    """Logits without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean((1, 2, 3), keepdim=False)
        stair = (20 * level).round() + 0 * level
        return torch.stack([stair, 12 - stair, 0.5 * stair], 1)


@pytest.mark.parametrize("metric", CURVES)
def test_maps_of_zeros_are_maps_without_an_order(metric: Metric) -> None:
    scores = metric(case(Steps(), classes=3))
    assert all(values.isfinite().all() for values in scores.values())
    if metric in (pixel_flipping, road):
        assert next(iter(scores.values())).tolist() == [0.0] * 6


def test_maps_of_zeros_explain_nothing_and_have_no_relative_change() -> None:
    c = case(Steps(), classes=3)
    found = infidelity(c, sigma=0.5)
    torch.testing.assert_close(found["relative_infidelity"], torch.ones(6))
    assert (found["infidelity"] > 0).all()
    assert sensitivity(c)["sensitivity_max"].isnan().all()


def test_a_map_of_zeros_beside_other_maps_has_no_relative_change() -> None:
    class Hinge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            above = (x.mean((1, 2, 3)) - 0.5).relu()
            return torch.stack([above + 1, -above], 1)

    c = case(Hinge(), n=3, classes=2)
    c.x[1:] = 0.5
    found = sensitivity(c, of="logit", samples=20)["sensitivity_max"]
    assert found.isnan().tolist()[1:] == [True, True]


def test_a_model_that_never_changes_has_no_relative_infidelity() -> None:
    c = case(Linear(torch.zeros(4, 2, 5, 6)))
    found = infidelity(c)
    assert found["relative_infidelity"].isnan().all()
    assert found["infidelity"].tolist() == [0.0] * 6


@pytest.mark.parametrize("metric", CURVES)
def test_steps_are_never_more_than_pixels(metric: Metric) -> None:
    c = case(Net((1, 2, 3)), n=2, shape=(1, 2, 3))
    scores = metric(c) if metric is road else metric(c, steps=100)
    points = [name for name in scores if name.startswith("probability@")]
    assert len(points) in (0, 7)
