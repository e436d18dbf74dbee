"""Single-step adversarial training and noise: loss and gradient against versions written out sample by sample."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.randomness import Draws
from metrics.threat import L1, L2, Linf, ThreatModel
from trainers.base import Images, Objective, Setup, Step, Trainer, from_objective
from trainers.fgsm_rs import fgsm_rs
from trainers.free_at import free_at
from trainers.gaussian_noise import gaussian_noise
from trainers.grad_align import grad_align
from trainers.n_fgsm import n_fgsm
from trainers.pgd_at import pgd_at
from trainers.recipe import Recipe
from trainers.standard import standard

N, K, SHAPE = 6, 4, (2, 3, 3)
D = math.prod(SHAPE)
IDS = torch.arange(N)
# some pixels black, some white: there the cut to [0, 1] binds
X = (1.4 * Draws(0, IDS).uniform(*SHAPE).double() - 0.2).clamp(0, 1)
Y = IDS % K
DRAWS = Draws(3, IDS)
LINF, EUCLID = Linf(0.1), L2(0.4)
threats = pytest.mark.parametrize("threat", [LINF, EUCLID], ids=str)
every_norm = pytest.mark.parametrize("threat", [LINF, EUCLID, L1(1.5)], ids=str)


def loss_of(trainer: Trainer) -> Callable[..., Tensor]:
    """The loss on a batch that a trainer was lifted from."""
    loss: Callable[..., Tensor] = inspect.unwrap(trainer)
    return loss


def at(threat: ThreatModel | None = LINF) -> Step:
    return Step(DRAWS, 1.0, threat, lr=0.1)


def filled(*layers: nn.Module) -> nn.Sequential:
    """A network with weights of its own, in double precision."""
    net = nn.Sequential(*layers).double()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(Draws(i, torch.arange(1)).normal(*parameter.shape)[0])
    return net


@pytest.fixture
def model() -> nn.Sequential:
    return filled(nn.Flatten(), nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, K))


def batchnorm_net() -> nn.Sequential:
    return filled(
        nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, K)
    ).train()  # fmt: skip


def derivatives(net: nn.Module, loss: Tensor) -> list[Tensor]:
    parameters = list(net.parameters())
    return list(
        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    )  # fmt: skip


def assert_same(model: nn.Module, got: Tensor, expected: Tensor) -> None:
    """Equal values and equal derivatives by every parameter."""
    assert got.shape == ()
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-12)
    for one, two in zip(derivatives(model, got), derivatives(model, expected), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def ce(model: nn.Module, image: Tensor, label: int) -> Tensor:
    z = model(image[None])[0]
    return z.exp().sum().log() - z[label]


def mean_ce(model: nn.Module, x: Tensor, y: Tensor = Y) -> Tensor:
    losses = [ce(model, image, int(label)) for image, label in zip(x, y, strict=True)]
    return torch.stack(losses).mean()


def gradient(model: nn.Module, image: Tensor, label: int) -> Tensor:
    image = image.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(ce(model, image, label), image, create_graph=True)
    return g


def ascent(threat: ThreatModel, g: Tensor) -> Tensor:
    """The step of length 1 in the threat's norm."""
    if isinstance(threat, Linf):
        return g.detach().sign()
    return g.detach() / g.detach().square().sum().sqrt()


def within(threat: ThreatModel, delta: Tensor) -> Tensor:
    if isinstance(threat, Linf):
        return delta.clip(-threat.eps, threat.eps)
    length = delta.square().sum().sqrt().item()
    return delta * min(1.0, threat.eps / length) if length else delta


def each_image(start: Tensor) -> Iterator[tuple[Tensor, int, Tensor]]:
    return zip(X, Y.tolist(), start, strict=True)


def seen_by(model: nn.Module, trainer: Trainer, step: Step, **settings: object) -> Tensor:
    """The images of the one training pass."""
    seen: list[Tensor] = []
    hook = model.register_forward_pre_hook(
        lambda m, inputs: seen.append(inputs[0].detach().clone()) if m.training else None
    )
    loss_of(trainer)(model.train(), X, Y, step, **settings)
    hook.remove()
    assert len(seen) == 1
    return seen[0]


# ---- gaussian_noise ----


def test_gaussian_noise_literally(model: nn.Sequential) -> None:
    noise = DRAWS.normal(*SHAPE).double()
    noisy = torch.stack([image + 0.5 * n for image, n in zip(X, noise, strict=True)])
    assert noisy.min() < 0, "and is not cut"
    assert noisy.max() > 1
    assert_same(
        model, loss_of(gaussian_noise)(model, X, Y, at(None), sigma=0.5), mean_ce(model, noisy)
    )


def test_gaussian_noise_has_the_asked_deviation() -> None:
    net, many = filled(nn.Flatten(), nn.Linear(D, K)), torch.arange(4000)
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    x = X[:1].expand(4000, *SHAPE)
    loss_of(gaussian_noise)(net, x, many % K, Step(Draws(0, many), 0.0, None, 0.1), sigma=0.12)
    noise = seen[0] - x
    assert noise.std().item() == pytest.approx(0.12, rel=0.02)
    assert abs(noise.mean().item()) < 4 * 0.12 / math.sqrt(4000 * D)


def test_without_noise_it_is_standard_training(model: nn.Sequential) -> None:
    got = loss_of(gaussian_noise)(model, X, Y, at(None), sigma=0.0)
    expected = loss_of(standard)(model, X, Y, at(None))
    assert torch.equal(got, expected)
    pairs = zip(derivatives(model, got), derivatives(model, expected), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


# ---- fgsm_rs ----


def fgsm_rs_literal(
    model: nn.Module, threat: ThreatModel, alpha: float, clip_start: bool = False
) -> Tensor:
    moved = []
    for image, label, u in each_image(threat.noise(X, DRAWS)):
        noisy = (image + u).clip(0, 1) if clip_start else image + u
        step = alpha * threat.eps * ascent(threat, gradient(model, noisy, label))
        moved.append((image + within(threat, noisy - image + step)).clip(0, 1))
    return torch.stack(moved)


@threats
@pytest.mark.parametrize("alpha", [1.25, 0.5])
@pytest.mark.parametrize("clip", [False, True])
def test_fgsm_rs_literally(
    model: nn.Sequential, threat: ThreatModel, alpha: float, clip: bool
) -> None:
    expected = mean_ce(model, fgsm_rs_literal(model, threat, alpha, clip))
    assert expected > mean_ce(model, X) + 0.01
    got = loss_of(fgsm_rs)(model, X, Y, at(threat), alpha=alpha, clip_start=clip)
    assert_same(model, got, expected)


def test_the_start_of_fgsm_rs_may_leave_the_range_of_pixels(model: nn.Sequential) -> None:
    free, cut = (loss_of(fgsm_rs)(model, X, Y, at(), clip_start=clip) for clip in (False, True))
    assert (free - cut).abs() > 1e-6


def test_fgsm_rs_takes_the_papers_step_by_default(model: nn.Sequential) -> None:
    expected = mean_ce(model, fgsm_rs_literal(model, LINF, 1.25))
    assert_same(model, loss_of(fgsm_rs)(model, X, Y, at()), expected)


@threats
def test_fgsm_rs_without_a_step_trains_on_the_random_start(
    model: nn.Sequential, threat: ThreatModel
) -> None:
    start = (X + threat.noise(X, DRAWS)).clip(0, 1)
    assert not torch.equal(start, X)
    got = loss_of(fgsm_rs)(model, X, Y, at(threat), alpha=0.0)
    assert_same(model, got, mean_ce(model, start))


@every_norm
@pytest.mark.parametrize("alpha", [0.5, 10.0])
def test_fgsm_rs_stays_in_the_ball(model: nn.Sequential, threat: ThreatModel, alpha: float) -> None:
    shown = seen_by(model, fgsm_rs, at(threat), alpha=alpha)
    assert (threat.size(shown - X) <= threat.eps + 1e-12).all()
    assert shown.min() >= 0
    assert shown.max() <= 1


# ---- n_fgsm ----


def n_fgsm_literal(model: nn.Module, threat: ThreatModel, noise: float, alpha: float) -> Tensor:
    moved = []
    for image, label, u in each_image(type(threat)(noise * threat.eps).noise(X, DRAWS)):
        noisy = (image + u).clip(0, 1)
        step = alpha * threat.eps * ascent(threat, gradient(model, noisy, label))
        moved.append((noisy + step).clip(0, 1))
    return torch.stack(moved)


@threats
@pytest.mark.parametrize(("noise", "alpha"), [(2.0, 1.0), (0.5, 1.5), (1.0, 0.0)])
def test_n_fgsm_literally(
    model: nn.Sequential, threat: ThreatModel, noise: float, alpha: float
) -> None:
    expected = mean_ce(model, n_fgsm_literal(model, threat, noise, alpha))
    got = loss_of(n_fgsm)(model, X, Y, at(threat), noise=noise, alpha=alpha)
    assert_same(model, got, expected)


def test_n_fgsm_has_the_papers_noise_and_step_by_default(model: nn.Sequential) -> None:
    expected = mean_ce(model, n_fgsm_literal(model, LINF, 2.0, 1.0))
    assert_same(model, loss_of(n_fgsm)(model, X, Y, at()), expected)


@threats
def test_n_fgsm_without_noise_is_fgsm(model: nn.Sequential, threat: ThreatModel) -> None:
    moved = torch.stack(
        [
            (image + threat.eps * ascent(threat, gradient(model, image, label))).clip(0, 1)
            for image, label in zip(X, Y.tolist(), strict=True)
        ]
    )
    got = loss_of(n_fgsm)(model, X, Y, at(threat), noise=0.0)
    assert_same(model, got, mean_ce(model, moved))


@every_norm
def test_n_fgsm_leaves_the_ball_but_not_that_of_noise_and_step(
    model: nn.Sequential, threat: ThreatModel
) -> None:
    shown = seen_by(model, n_fgsm, at(threat), noise=2.0, alpha=1.0)
    size = threat.size(shown - X)
    assert (size > threat.eps).any()
    assert (size <= 3 * threat.eps + 1e-12).all()
    assert shown.min() >= 0
    assert shown.max() <= 1


# ---- grad_align ----


def grad_align_literal(model: nn.Module, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """(cross-entropy at the FGSM images, disagreement)."""
    moved, terms = [], []
    for image, label, u in each_image(threat.noise(X, DRAWS)):
        own = gradient(model, image, label).detach().flatten()
        near = gradient(model, image + u, label).flatten()
        terms.append(1 - own @ near / (own.norm() * near.norm()))
        step = threat.eps * ascent(threat, own).view(SHAPE)
        moved.append((image + step).clip(0, 1))
    return mean_ce(model, torch.stack(moved)), torch.stack(terms).mean()


@threats
@pytest.mark.parametrize("weight", [0.2, 2.0])
def test_grad_align_literally(model: nn.Sequential, threat: ThreatModel, weight: float) -> None:
    classified, disagreement = grad_align_literal(model, threat)
    assert disagreement > 1e-3
    got = loss_of(grad_align)(model, X, Y, at(threat), weight=weight)
    assert_same(model, got, classified + weight * disagreement)


def test_grad_align_has_the_papers_weight_by_default(model: nn.Sequential) -> None:
    classified, disagreement = grad_align_literal(model, LINF)
    assert_same(model, loss_of(grad_align)(model, X, Y, at()), classified + 0.2 * disagreement)


@threats
def test_grad_align_of_a_linear_model_of_two_classes_is_fgsm(threat: ThreatModel) -> None:
    """Its gradient is (p_1 - y) (w_1 - w_0): the direction is the same everywhere."""
    linear, y = filled(nn.Flatten(), nn.Linear(D, 2)), Y % 2
    got = [loss_of(grad_align)(linear, X, y, at(threat), weight=w) for w in (0.0, 100.0)]
    torch.testing.assert_close(*got, rtol=0, atol=1e-10)
    # 1 - cos is smallest here, so it has no slope either
    for none, much in zip(*(derivatives(linear, loss) for loss in got), strict=True):
        torch.testing.assert_close(none, much, rtol=0, atol=1e-10)


@every_norm
def test_grad_align_stays_in_the_ball(model: nn.Sequential, threat: ThreatModel) -> None:
    shown = seen_by(model, grad_align, at(threat))
    assert (threat.size(shown - X) <= threat.eps + 1e-6).all()
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_grad_align_without_weight_is_fgsm(model: nn.Sequential) -> None:
    expected = loss_of(n_fgsm)(model, X, Y, at(), noise=0.0)
    assert_same(model, loss_of(grad_align)(model, X, Y, at(), weight=0.0), expected)


class Gated(nn.Module):
    """A model that is constant while the first pixel is dark."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0, 0, :1] - 0.5).relu() * self.net(x)


def test_grad_align_leaves_out_images_without_a_gradient(model: nn.Sequential) -> None:
    net = Gated(model)
    x = X.clone()
    x[:, 0, 0, 0] = 0.9
    x[:3, 0, 0, 0] = 0.0
    penalties = []
    for where in (slice(0, 6), slice(3, 6), slice(0, 3)):
        step = Step(DRAWS[where], 1.0, Linf(0.05), 0.1)
        much, none = (loss_of(grad_align)(net, x[where], Y[where], step, weight=w) for w in (1, 0))
        penalties.append(much - none)
    assert penalties[1] > 1e-3
    torch.testing.assert_close(penalties[0], penalties[1])
    assert penalties[2] == 0
    assert all(d.isfinite().all() for penalty in penalties for d in derivatives(net, penalty))


def test_grad_align_sees_the_direction_of_a_sure_models_tiny_gradients(
    model: nn.Sequential,
) -> None:
    """What the model adds to the label's logit makes gradients tiny and turns none; in float32 p_y - 1 is then 0."""
    y, found = torch.ones(N, dtype=torch.int64), []
    for surer, kind in ((0, torch.float64), (35, torch.float32)):
        with torch.no_grad():
            model[3].bias[1] += surer
        model.to(kind)
        much, none = (loss_of(grad_align)(model, X.to(kind), y, at(), weight=w) for w in (1.0, 0.0))
        found.append([(much - none).detach(), *derivatives(model, much - none)])
    assert none < 1e-9
    assert found[0][0] > 1e-3
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-5)


# ---- free_at ----


RECIPE = Recipe("mlp", epochs=2, batch_size=4, lr=0.1, optimiser="sgd", keep="last")
TRAIN = Images(X, Y, IDS)
# batches of the loop differ in size: a last one is smaller, or one image larger than the recipe's
BATCHES = (slice(0, 4), slice(4, 6), slice(1, 6), slice(0, 3))


def objective(net: nn.Module, threat: ThreatModel | None, **settings: object) -> Objective:
    setup = Setup(TRAIN, TRAIN, RECIPE, threat, threat, 0)
    made: Objective = inspect.unwrap(free_at)(net, setup, **settings)
    return made


def steps_of(
    net: nn.Module, made: Objective, batches: tuple[slice, ...], threat: ThreatModel | None
) -> list[Tensor]:
    """The loop's part: descend, each batch `replays` times; returns the losses."""
    losses = []
    for batch in batches:
        for _ in range(made.replays):
            loss = made.loss(X[batch], Y[batch], Step(DRAWS[batch], 0.5, threat, 0.1))
            net.zero_grad()
            loss.backward()
            losses.append(loss.detach())
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= 0.1 * parameter.grad
    return losses


def free_at_literal(net: nn.Module, threat: ThreatModel, replays: int) -> list[Tensor]:
    """Algorithm 1 of Shafahi et al. 2019, one image after the other."""
    perturbation, losses = torch.zeros(5, *SHAPE, dtype=torch.float64), []
    for batch in BATCHES:
        x, y = X[batch], Y[batch].tolist()
        for _ in range(replays):
            moved = torch.stack([(x[i] + perturbation[i]).clip(0, 1) for i in range(len(x))])
            loss = mean_ce(net, moved, Y[batch])
            found = derivatives(net, loss)
            for i, label in enumerate(y):
                up = threat.eps * ascent(threat, gradient(net, moved[i], label))
                perturbation[i] = (x[i] + within(threat, moved[i] - x[i] + up)).clip(0, 1) - x[i]
            with torch.no_grad():
                for parameter, derivative in zip(net.parameters(), found, strict=True):
                    parameter -= 0.1 * derivative
            losses.append(loss.detach())
    return losses


def assert_equal_weights(one: nn.Module, other: nn.Module) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


@threats
@pytest.mark.parametrize("replays", [1, 3])
def test_free_at_literally(model: nn.Sequential, threat: ThreatModel, replays: int) -> None:
    twin = copy.deepcopy(model)
    expected = free_at_literal(twin, threat, replays)
    made = objective(model, threat, replays=replays)
    assert made.replays == replays
    got = steps_of(model, made, BATCHES, threat)
    torch.testing.assert_close(torch.stack(got), torch.stack(expected), rtol=1e-7, atol=1e-10)
    assert_equal_weights(model, twin)


@every_norm
def test_free_at_shows_allowed_images_and_keeps_the_perturbation_for_the_next_batch(
    model: nn.Sequential, threat: ThreatModel
) -> None:
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].detach().clone()))
    made = objective(model, threat, replays=2)
    steps_of(model, made, (slice(0, 4), slice(2, 6)), threat)
    assert torch.equal(seen[0], X[:4]), "the first is none"
    for images, batch in zip(seen, (slice(0, 4),) * 2 + (slice(2, 6),) * 2, strict=True):
        size = threat.size(images - X[batch])
        assert (size <= threat.eps + 1e-6).all()
        assert (size > 0).all() or images is seen[0]
        assert images.min() >= 0
        assert images.max() <= 1


def train(
    trainer: Trainer, threat: ThreatModel | None, epochs: int = 2, **settings: object
) -> nn.Module:
    net, recipe = batchnorm_net(), replace(RECIPE, epochs=epochs)
    trained = trainer(net, TRAIN, TRAIN, recipe=recipe, threat=threat, seed=0, **settings)
    return trained.model


def test_free_at_once_and_without_a_ball_is_standard_training() -> None:
    one, two = train(free_at, Linf(0.0), replays=1), train(standard, None)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("epochs", "replays", "steps"), [(6, 3, 12), (6, 1, 12), (7, 3, 12), (2, 3, 6), (1, 8, 16)]
)
def test_free_at_has_as_many_steps_as_others_at_equal_epochs_as_whole_replays_allow(
    epochs: int, replays: int, steps: int
) -> None:
    """An epoch is 2 batches; each replay of them is a step, and counts as a pass: the nearest multiple."""
    replayed = train(free_at, LINF, epochs, replays=replays)
    assert replayed[1].num_batches_tracked == steps


def test_free_at_replays_the_same_augmented_images_and_logs_their_mean_loss() -> None:
    shown, losses = [], []

    @from_objective
    def spy(model: nn.Module, setup: Setup) -> Objective:
        def loss(x: Tensor, y: Tensor, step: Step) -> Tensor:
            shown.append(x)
            losses.append(F.cross_entropy(model(x), y) * len(x))
            return losses[-1] / len(x)

        return Objective(loss, replays=3)

    recipe = replace(RECIPE, epochs=6, augment="crop_flip")
    trained = spy(batchnorm_net(), TRAIN, TRAIN, recipe=recipe, threat=None, seed=0)
    batches = [shown[i : i + 3] for i in range(0, len(shown), 3)]
    assert len(batches) == 4
    assert all(torch.equal(one, x) for one, *others in batches for x in others)
    assert not torch.equal(batches[0][0], batches[2][0])
    first = sum(value.item() for value in losses[:6]) / 3 / len(TRAIN.y)
    assert trained.log[0].loss == pytest.approx(first, rel=1e-5)


def test_free_at_at_equal_cost_counts_its_replays_once() -> None:
    """A batch costs so many steps and their gradients by the images: no epoch is divided once more."""
    net, recipe = batchnorm_net(), replace(RECIPE, epochs=12, budget="cost")
    free_at(net, TRAIN, TRAIN, recipe=recipe, threat=LINF, seed=0, replays=3)
    assert 12 < net[1].num_batches_tracked <= 24


class Kept:
    """The snapshot after the first epoch."""

    snapshot: dict[str, Any] | None = None

    def load(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.snapshot)

    def offer(self, make: Callable[[], dict[str, Any]]) -> None:
        self.snapshot = copy.deepcopy(make())


def test_a_resumed_free_training_ends_with_the_same_weights() -> None:
    snapshots = Kept()
    straight = train(free_at, LINF, 6, replays=3, snapshots=snapshots)
    assert len(snapshots.snapshot["log"]) == 1
    resumed = train(free_at, LINF, 6, replays=3, snapshots=snapshots)
    pairs = zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    forgotten = snapshots.snapshot["live"]["objective.perturbation"]
    forgotten.update({name: torch.zeros_like(value) for name, value in forgotten.items()})
    other = train(free_at, LINF, 6, replays=3, snapshots=snapshots)
    assert not torch.equal(straight[0].weight, other[0].weight)


def test_free_at_needs_a_threat(model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="needs a threat, as in threat = 'Linf 8/255'"):
        steps_of(model, objective(model, None), BATCHES, None)


# ---- pgd_at ----


def test_pgd_at_by_dlr_literally(model: nn.Sequential) -> None:
    # of the predicted class: where the label comes third the ratio is 1 and has no gradient
    moved, y = [], model(X).argmax(1)
    for image, label in zip(X, y.tolist(), strict=True):
        adversarial = image
        for _ in range(3):
            leaf = adversarial.clone().requires_grad_()
            z = model(leaf[None])[0]
            first, second, third = sorted(z, key=Tensor.item, reverse=True)[:3]
            assert z[label] > third
            other = second if z[label] == first else first
            (g,) = torch.autograd.grad((other - z[label]) / (first - third), leaf)
            delta = within(LINF, adversarial + 0.04 * g.sign() - image)
            adversarial = (image + delta).clip(0, 1)
        moved.append(adversarial)
    settings = {"steps": 3, "step_size": 0.04, "random_start": False}
    got = loss_of(pgd_at)(model, X, y, at(), loss="dlr", **settings)
    assert_same(model, got, mean_ce(model, torch.stack(moved), y))
    assert got != loss_of(pgd_at)(model, X, y, at(), loss="margin", **settings)


# ---- for all ----


ALL: list[tuple[Trainer, dict[str, object]]] = [
    (gaussian_noise, {}), (fgsm_rs, {}), (n_fgsm, {}), (grad_align, {}), (grad_align, {"weight": 0}),
]  # fmt: skip
each = pytest.mark.parametrize(
    ("trainer", "settings"), ALL, ids=lambda v: str(getattr(v, "__name__", v))
)


@pytest.mark.parametrize("trainer", [fgsm_rs, n_fgsm, grad_align])
def test_adversarial_training_needs_a_threat(trainer: Trainer, model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="needs a threat, as in threat = 'Linf 8/255'"):
        loss_of(trainer)(model, X, Y, at(None))


@each
def test_a_loss_leaves_images_modes_and_generator_alone(
    trainer: Trainer, settings: dict[str, object], model: nn.Sequential
) -> None:
    x, state = X.clone(), torch.get_rng_state()
    loss_of(trainer)(model.train(), x, Y, at(), **settings)
    assert torch.equal(x, X)
    assert not x.requires_grad
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def assert_moved_by(net: nn.Sequential, seen: list[Tensor]) -> None:
    """BatchNorm's statistics are those of a fresh network after these batches, one after another."""
    replay = batchnorm_net()
    for batch in seen:
        replay(batch)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(net[1], name), getattr(replay[1], name))


@each
def test_only_the_training_pass_moves_batchnorm(
    trainer: Trainer, settings: dict[str, object]
) -> None:
    net = batchnorm_net()
    shown = seen_by(net, trainer, at(), **settings)
    assert not torch.equal(shown, X)
    assert_moved_by(net, [shown])
    assert net[1].num_batches_tracked == 1


def test_free_at_moves_batchnorm_once_a_step() -> None:
    net, seen = batchnorm_net(), []
    net.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].detach().clone()))
    made = objective(net, LINF, replays=2)
    for _ in range(2):
        made.loss(X[:5], Y[:5], at()).backward()
    assert torch.equal(seen[0], X[:5])
    assert not torch.equal(seen[1], X[:5])
    assert_moved_by(net, seen)


def perturbed(trainer: Trainer, net: nn.Module) -> Tensor:
    if trainer is gaussian_noise:
        return X + 0.25 * DRAWS.normal(*SHAPE)
    if trainer is fgsm_rs:
        return fgsm_rs_literal(net, LINF, 1.25)
    return n_fgsm_literal(net, LINF, 2.0 if trainer is n_fgsm else 0.0, 1.0)


@pytest.mark.parametrize("trainer", [gaussian_noise, fgsm_rs, n_fgsm, grad_align])
def test_attacks_see_the_running_statistics_and_training_those_of_the_batch(
    trainer: Trainer,
) -> None:
    constants, net, model = batchnorm_net().eval(), batchnorm_net(), batchnorm_net()
    classified = F.cross_entropy(net(perturbed(trainer, constants)), Y)
    expected, found = classified, derivatives(net, classified)
    if trainer is grad_align:
        disagreement = grad_align_literal(constants, LINF)[1]
        expected = classified + 0.2 * disagreement
        penalties = derivatives(constants, 0.2 * disagreement)
        found = [one + two for one, two in zip(found, penalties, strict=True)]
    got = loss_of(trainer)(model, X, Y, at())
    torch.testing.assert_close(got, expected)
    for one, two in zip(derivatives(model, got), found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)
