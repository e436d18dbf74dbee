"""Sanity checks of maps: what is randomised, what is left alone, closed forms and the formulas written out."""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from metrics.attribution import explain
from metrics.case import Case, NotApplicable, Scores
from metrics.randomness import Draws
from metrics.sanity._randomisation import _layers, cascade
from metrics.sanity._similarity import similarities
from metrics.sanity.cascading_randomisation import cascading_randomisation
from metrics.sanity.emprt import _entropy, emprt
from metrics.sanity.random_logit import random_logit

EVERY = (cascading_randomisation, emprt, random_logit)
every = pytest.mark.parametrize("metric", EVERY)
DRAWS = Draws(0, torch.arange(4))


class Net(nn.Module):
    """Defined in another order than it is run; with a norm, a bare parameter and a layer that is never used."""

    def __init__(self, channels: int = 2, classes: int = 4) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.head = nn.Linear(12, classes)
            self.unused = nn.Linear(3, 3)
            self.shift = nn.Parameter(torch.randn(12))
            self.norm = nn.BatchNorm2d(12)
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.weight.data.uniform_(0.5, 2)
            self.convolution = nn.Conv2d(channels, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.convolution(x))
        return 4 * self.head(torch.tanh(features + self.shift.view(-1, 1, 1)).mean((2, 3)))


class Linear(nn.Linear):
    """Logits W x of images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


def linear(channels: int, height: int, width: int, classes: int) -> Linear:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Linear(channels * height * width, classes)


def case(
    model: nn.Module,
    n: int = 6,
    shape: tuple[int, ...] = (2, 5, 6),
    classes: int = 4,
    seed: int = 0,
) -> Case:
    ids = torch.arange(n)
    x = Draws(1, ids).uniform(*shape)
    return Case(
        model=model.eval().requires_grad_(False), x=x, y=ids % classes, draws=Draws(seed, ids),
        train_x=x, train_draws=Draws(seed, ids), threat=None, classes=classes, grade=lambda _: {},
        refit=None, manifold=lambda: None, surrogate=lambda _: model,  # type: ignore[arg-type, return-value]
    )  # fmt: skip


def images(c: Case, index: slice) -> Case:
    return replace(c, x=c.x[index], y=c.y[index], draws=c.draws[index])


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# ---- randomising


def test_layers_from_the_logits_to_the_input_in_the_order_of_running() -> None:
    # the bare parameter belongs to the network itself, which is entered first
    # and what is never called comes last: its weights may be used all the same
    expected = ["head", "norm", "convolution", "", "unused"]
    assert _layers(Net().eval(), torch.rand(1, 2, 5, 6)) == expected


@pytest.mark.parametrize(
    ("stages", "done"),
    [(10, [1, 2, 3, 4, 5]), (2, [2, 5]), (1, [5]), (3, [2, 3, 5])],
)
def test_the_cascade_randomises_equal_shares_of_the_layers(stages: int, done: list[int]) -> None:
    model = Net().eval().requires_grad_(False)
    original, order = weights(model), ["head", "norm", "convolution", "", "unused"]
    owned = {
        "head": ["head.weight", "head.bias"],
        "norm": ["norm.weight", "norm.running_mean", "norm.running_var"],
        "convolution": ["convolution.weight", "convolution.bias"],
        "": ["shift"],
        "unused": ["unused.weight", "unused.bias"],
    }
    shares = []
    for (share, randomised), count in zip(
        cascade(model, torch.rand(2, 2, 5, 6), DRAWS, stages), done, strict=True
    ):
        shares.append(share)
        now = randomised.state_dict()
        changed = {name for name, value in now.items() if not torch.equal(value, original[name])}
        expected = {name for layer in order[:count] for name in owned[layer]}
        assert changed == expected - {"norm.running_var"}, "which was 1, as it is at the beginning"
    assert shares == [k / len(done) for k in range(1, len(done) + 1)]
    assert all(torch.equal(value, original[name]) for name, value in model.state_dict().items())


def test_new_weights_are_those_of_a_new_layer_and_belong_to_the_seed() -> None:
    model, x = Net().eval().requires_grad_(False), torch.rand(2, 2, 5, 6)
    state = torch.get_rng_state()

    def forgetful(seed: int, stages: int = 1) -> dict[str, Tensor]:
        *_, (_, randomised) = cascade(model, x, Draws(seed, torch.arange(2)), stages)
        return weights(randomised)

    one, again, other = forgetful(0), forgetful(0, stages=3), forgetful(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert one["norm.running_mean"].tolist() == [0.0] * 12
    assert one["norm.weight"].tolist() == [1.0] * 12
    bound = 1 / math.sqrt(12)
    assert 0.8 * bound < one["head.weight"].abs().max() <= bound, "torch's own initialisation"
    shift = model.state_dict()["shift"]
    assert torch.equal(one["shift"].sort().values, shift.sort().values), "shuffled"


class Attention(nn.Module):
    """A layer whose output weights are used without a call, one whose weights are read, and a computed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.read = nn.Linear(4, 4)
        self.computed = parametrizations.weight_norm(nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT
        mixed = self.attention(tokens, tokens, tokens)[0].mean(1)
        return self.computed(nn.functional.linear(mixed, self.read.weight, self.read.bias))


def test_nothing_trained_is_left_at_the_end() -> None:
    model = Attention().eval().requires_grad_(False)
    for values in model.parameters():  # as training would: no two numbers are equal
        values.copy_(Draws(3, torch.arange(1)).normal(*values.shape)[0])
    x, original = torch.rand(2, 4, 2, 3), weights(model)
    assert _layers(model, x)[-2:] == ["read", "attention.out_proj"], "those that are not called"
    for stages in (1, 10):
        *_, (share, forgetful) = cascade(model, x, DRAWS, stages)
        assert share == 1
        for name, values in forgetful.state_dict().items():
            assert not torch.equal(values, original[name]), name
    assert all(torch.equal(values, original[name]) for name, values in model.state_dict().items())


def test_a_model_whose_weights_are_only_read_has_layers() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(60, 4)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x.flatten(1), self.layer.weight)

    assert cascading_randomisation(case(Read()), of="logit")["similarity"].abs().max() < 0.7


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_parts_of_a_weight_are_forgotten_though_the_layer_resets_only_their_product() -> None:
    model = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(60, 4)))
    c = case(model)
    model(c.x)
    ((_, forgetful),) = cascade(model, c.x, DRAWS, 1)
    original = weights(model)
    for name, values in forgetful.state_dict().items():
        assert not torch.equal(values, original[name]), name
    assert cascading_randomisation(c, of="logit")["similarity"].abs().max() < 0.7


def test_a_model_that_cannot_be_copied_is_told() -> None:
    model = Net()
    model.lock = threading.Lock()
    for metric in (cascading_randomisation, emprt):
        with pytest.raises(NotApplicable, match=r"cannot be copied: cannot pickle '_thread\.lock'"):
            metric(case(model))


def test_a_model_without_layers_is_refused() -> None:
    c = case(nn.Flatten(), shape=(1, 2, 2), classes=4)
    for metric in (cascading_randomisation, emprt):
        with pytest.raises(NotApplicable, match="no layers with parameters"):
            metric(c)


@every
def test_the_model_and_the_generator_keep_no_trace(metric: Callable[..., Scores]) -> None:
    model = Net()
    c = case(model)
    before, state, x = weights(model), torch.get_rng_state(), c.x.clone()
    first, second = metric(c), metric(c)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks or module.training for module in model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(c.x, x)
    assert all(torch.equal(values, second[name]) for name, values in first.items())


# ---- similarities


def literal_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004 pixel by pixel: Gaussian windows of 1.5 pixels, renormalised at the border."""
    a, b = ((m - m.min()) / (m.max() - m.min()) for m in (a, b))
    cells = list(itertools.product(range(a.shape[0]), range(a.shape[1])))
    total = 0.0
    for i, j in cells:
        w = {c: math.exp(-((c[0] - i) ** 2 + (c[1] - j) ** 2) / 4.5) for c in cells}
        norm = sum(w.values())
        mean_a, mean_b = (sum(w[c] * m[c] for c in cells) / norm for m in (a, b))
        var_a = sum(w[c] * (a[c] - mean_a) ** 2 for c in cells) / norm
        var_b = sum(w[c] * (b[c] - mean_b) ** 2 for c in cells) / norm
        both = sum(w[c] * (a[c] - mean_a) * (b[c] - mean_b) for c in cells) / norm
        one = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
        total += one * (2 * both + 9e-4) / (var_a + var_b + 9e-4)
    return total / len(cells)


def literally(one: Tensor, other: Tensor) -> dict[str, float]:
    """Two maps (C, H, W)."""
    a, b = one.double().numpy(), other.double().numpy()
    absolute = [np.abs(m).sum(0) for m in (a, b)]
    return {
        "spearman_abs": float(stats.spearmanr(*(m.ravel() for m in absolute)).statistic),
        "spearman": float(stats.spearmanr(a.sum(0).ravel(), b.sum(0).ravel()).statistic),
        "ssim": literal_ssim(*absolute),
    }


def test_similarities_literally_and_at_their_limits() -> None:
    maps, others = (Draws(s, torch.arange(5)).normal(2, 4, 5) for s in (0, 1))
    found = similarities(maps, others)
    for i in range(5):
        for name, value in literally(maps[i], others[i]).items():
            assert float(found[name][i]) == pytest.approx(value, abs=1e-4), name
    for name, value in similarities(maps, maps).items():
        torch.testing.assert_close(value, torch.ones(5), msg=name)
    turned = similarities(maps, -maps)
    torch.testing.assert_close(turned["spearman"], -torch.ones(5))
    torch.testing.assert_close(turned["spearman_abs"], torch.ones(5))
    for broken in (torch.zeros_like(maps), maps * torch.nan):
        assert all(value.isnan().all() for value in similarities(maps, broken).values())


# ---- cascading randomisation


@pytest.mark.parametrize("attribution", ["gradient", "smoothgrad"])
def test_cascading_randomisation_literally(attribution: str) -> None:
    c = case(Net(), n=3)
    got = cascading_randomisation(c, attribution=attribution)
    model, target = copy.deepcopy(c.model), c.model(c.x).argmax(1)
    before = explain(c.model, c.x, c.draws, attribution=attribution)
    fresh = {share: weights(m) for share, m in cascade(c.model, c.x, c.draws, 5)}
    stages: list[list[dict[str, float]]] = [[] for _ in range(3)]
    for share, state in fresh.items():
        model.load_state_dict(state)
        after = explain(model, c.x, c.draws, attribution=attribution, target=target)
        for i in range(3):
            alike = literally(before[i], after[i])
            stages[i].append(alike)
            for name, value in alike.items():
                assert float(got[f"{name}@{share:g}"][i]) == pytest.approx(value, abs=1e-4)
    headings = {
        "spearman_abs": "similarity",
        "spearman": "signed_similarity",
        "ssim": "structural_similarity",
    }
    for i in range(3):
        for name, heading in headings.items():
            mean = sum(stage[name] for stage in stages[i]) / 5
            assert float(got[heading][i]) == pytest.approx(mean, abs=1e-4)


def test_a_linear_model_that_forgets_has_an_unrelated_map() -> None:
    c = case(linear(1, 40, 40, 3), shape=(1, 40, 40), classes=3)
    got = cascading_randomisation(c, of="logit")
    # Spearman of 1600 independent pixels has a standard error of 1/40
    assert got["similarity"].abs().max() < 0.1
    assert got["signed_similarity"].abs().max() < 0.1
    assert list(got) == [
        "similarity", "signed_similarity", "structural_similarity", "spearman_abs@1", "spearman@1", "ssim@1"
    ]  # fmt: skip


def test_a_map_that_ignores_the_model_fails_every_check() -> None:
    c = case(Net())
    for name, values in cascading_randomisation(c, attribution="random").items():
        torch.testing.assert_close(values, torch.ones(6), msg=name)
    for name, values in random_logit(c, attribution="random").items():
        torch.testing.assert_close(values, torch.ones(6), msg=name)
    assert emprt(c, attribution="random")["rise"].tolist() == [0.0] * 6


def test_a_map_of_the_image_survives_randomisation_better_than_the_gradient() -> None:
    c = case(Net(), n=20)
    c = replace(
        c, x=(c.x > 0.7) * 0.5 + 0.5
    )  # much of the image is grey, where gradient x input is zero
    times, own = (
        cascading_randomisation(c, attribution=a)["spearman_abs@1"].mean()
        for a in ("gradient_x_input", "gradient")
    )
    assert times > own + 0.2


# ---- eMPRT


def test_emprt_literally() -> None:
    c = case(Net(), n=4, shape=(2, 9, 8))
    got = emprt(c, bins=20)
    ((_, forgetful),) = cascade(c.model, c.x, c.draws, 1)
    target = c.model(c.x).argmax(1)
    for i in range(4):
        entropies = []
        for model in (c.model, forgetful):
            maps = explain(model, c.x, c.draws, target=target)
            counts, _ = np.histogram(maps[i].sum(0).double().numpy(), bins=20)
            entropies.append(stats.entropy(counts))
        before, after = entropies
        found = [float(got[name][i]) for name in ("entropy", "random_entropy", "rise")]
        assert found == pytest.approx([before, after, (after - before) / before], abs=1e-6)


def test_entropies_of_known_histograms() -> None:
    flat = torch.arange(64.0).view(1, 8, 8)  # four pixels in each of 16 bins
    spike = torch.zeros(1, 8, 8)
    spike[0, 3, 3] = 1.0
    share = 1 / 64
    expected = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert float(_entropy(flat, 16)) == pytest.approx(math.log(16))
    assert float(_entropy(spike, 100)) == pytest.approx(expected)
    assert float(_entropy(-3 * spike + 7, 100)) == pytest.approx(expected)
    assert float(_entropy(torch.full((1, 8, 8), 0.3), 100)) == 0.0
    assert _entropy(spike / 0, 100).isnan().all()


# ---- random logit


def test_random_logit_of_a_linear_model_is_that_of_its_rows() -> None:
    model = linear(2, 5, 6, 4)
    c = case(model, n=40)
    got = random_logit(c, of="logit")
    rows = model.weight.view(4, 2, 5, 6)
    predicted = c.model(c.x).argmax(1)
    drawn = {int(k): [] for k in predicted.unique()}
    for i in range(40):
        matches = [
            k
            for k in range(4)
            if k != predicted[i]
            and all(
                abs(float(got[name][i]) - value) < 1e-4
                for name, value in literally(rows[predicted[i]], rows[k]).items()
            )
        ]
        assert len(matches) == 1
        drawn[int(predicted[i])] += matches
    assert all(len(set(others)) > 1 for others in drawn.values() if len(others) > 10)
    torch.testing.assert_close(
        random_logit(images(c, slice(3, 5)), of="logit")["ssim"], got["ssim"][3:5]
    )


def test_every_other_class_is_as_likely() -> None:
    class Same(nn.Module):
        """Class k looks at pixel k; the first is always predicted."""

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :4] + torch.tensor([9.0, 0, 0, 0])

    c = case(Same(), n=3000, shape=(1, 1, 4))
    maps: list[Tensor] = []

    def spy(
        model: nn.Module, x: Tensor, draws: Draws, *, target: Tensor, **settings: object
    ) -> Tensor:
        maps.append(target)
        return explain(model, x, draws, target=target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metrics.sanity.random_logit.explain", spy)
        random_logit(c)
    predicted, other = maps
    assert predicted.tolist() == [0] * 3000
    counts = other.bincount(minlength=4).tolist()
    assert counts[0] == 0
    assert all(abs(count - 1000) < 4 * math.sqrt(3000 * 2 / 9) for count in counts[1:])


def test_logits_that_are_one_function_have_one_map() -> None:
    model = linear(1, 5, 6, 1)

    class Alike(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return model(x) + torch.tensor([0.0, 1.0, 2.0])

    for values in random_logit(case(Alike(), shape=(1, 5, 6), classes=3), of="logit").values():
        torch.testing.assert_close(values, torch.ones(6))


@pytest.mark.parametrize("of", ["log_odds", "log_probability", "margin"])
def test_two_classes_have_one_map_unless_the_logit_is_explained(of: str) -> None:
    c = case(Net(classes=2), classes=2)
    with pytest.raises(NotApplicable, match=f"of 2 classes the maps of the {of} differ by sign"):
        random_logit(c, of=of)
    assert random_logit(c, of="logit")["spearman_abs"].isfinite().all()
    with pytest.raises(NotApplicable, match="of 1 classes"):
        random_logit(replace(c, classes=1), of="logit")


# ---- images and maps of every kind


@every
@pytest.mark.parametrize(
    ("n", "shape", "classes"),
    [(4, (1, 6, 6), 10), (4, (3, 6, 6), 10), (1, (3, 5, 7), 3), (3, (1, 4, 9), 3)],
)
def test_colours_shapes_and_classes(
    metric: Callable[..., Scores], n: int, shape: tuple[int, ...], classes: int
) -> None:
    c = case(Net(shape[0], classes), n=n, shape=shape, classes=classes)
    whole, alone = metric(c), metric(images(c, slice(n - 1, n)))
    for name, values in whole.items():
        assert values.shape == (n,)
        assert values.dtype == torch.float32
        assert values.isfinite().all(), name
        torch.testing.assert_close(values[-1:], alone[name], rtol=1e-4, atol=1e-5)


class SometimesNaN(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.ones(()).where(x[:, :1, 0, 0] < 2, torch.nan)


@every
def test_a_map_that_is_not_a_number_has_no_score(metric: Callable[..., Scores]) -> None:
    c = case(SometimesNaN())
    clean = metric(c)
    c.x[2, 0, 0, 0] = 3.0
    for name, values in metric(c).items():
        assert values.isnan().tolist() == [i == 2 for i in range(6)], name
        others = torch.arange(6) != 2
        torch.testing.assert_close(values[others], clean[name][others], rtol=1e-5, atol=1e-6)


@every
def test_constant_maps_have_no_score(metric: Callable[..., Scores]) -> None:
    class Flat(Net):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * super().forward(x) + torch.arange(4.0)

    headline = next(iter(metric(case(Flat())).values()))
    assert headline.isnan().all()


def test_a_map_that_is_constant_only_before_has_no_relative_rise() -> None:
    class Awakened(Net):
        """Its map is zero until the norm is as at the beginning."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * ~self.norm.running_mean.any()

    got = emprt(case(Awakened()))
    assert got["rise"].isnan().all()
    assert got["entropy"].tolist() == [0.0] * 6
    assert (got["random_entropy"] > 0).all()


def test_a_stage_without_a_map_is_left_out() -> None:
    class Fragile(Net):
        """Its map is zero as soon as the norm is as at the beginning, that is from the second of five stages on."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.norm.running_mean.any()

    got = cascading_randomisation(case(Fragile()))
    assert got["spearman_abs@0.4"].isnan().all()
    torch.testing.assert_close(got["similarity"], got["spearman_abs@0.2"])
