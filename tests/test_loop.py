"""The training loop: keyed by its seed, literal in what it updates, and keeping the epoch it says."""

from __future__ import annotations

import copy
import inspect
import io
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.cards import card, cards
from metrics import attacks
from metrics.randomness import Draws
from metrics.threat import Linf
from trainers._loop import Loop
from trainers._optimisation import augment, rate
from trainers.adv_gsct import adv_gsct
from trainers.base import (
    Diverged,
    Epoch,
    Images,
    Objective,
    Setup,
    Step,
    Trained,
    Trainer,
    from_loss,
    from_objective,
)
from trainers.cure import cure
from trainers.fgsm_rs import fgsm_rs
from trainers.grad_align import grad_align
from trainers.input_gradient import input_gradient
from trainers.interpretation import interpretation
from trainers.jacobian import jacobian
from trainers.jarn import jarn
from trainers.pag import pag
from trainers.pgd_at import pgd_at
from trainers.recipe import Recipe
from trainers.sagr import sagr
from trainers.standard import standard
from trainers.trades import trades

N = 45
IDS = torch.arange(100, 100 + N)


def images(n: int = N, first: int = 100) -> Images:
    ids = torch.arange(first, first + n)
    x = Draws(0, ids).uniform(1, 6, 6)
    y = ids % 3
    x[:, 0, :2] = y[:, None, None] / 2  # learnable
    return Images(x, y, ids)


TRAIN, VALIDATION = images(), images(20, first=900)


def net(*, norm: bool = False) -> nn.Sequential:
    layers = [nn.Flatten(), nn.Linear(36, 8), nn.SiLU(), nn.Linear(8, 3)]
    if norm:
        layers = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(0.3 * Draws(i, torch.arange(1)).normal(*parameter.shape)[0])
    return model


def recipe(**changes: object) -> Recipe:
    return Recipe("mlp", **({"epochs": 3, "batch_size": 16, "lr": 0.01} | changes))  # type: ignore[arg-type]


def train(
    trainer: Trainer = standard, model: nn.Module | None = None, *, seed: int = 0,
    threat: Linf | None = None, how: Recipe | None = None, settings: dict[str, object] | None = None,
) -> Trained:  # fmt: skip
    return trainer(
        model or net(), TRAIN, VALIDATION, recipe=how or recipe(), threat=threat, seed=seed,
        **(settings or {}),
    )  # fmt: skip


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def same_state(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ---- keyed ----


@pytest.mark.parametrize(
    ("trainer", "settings"), [(standard, {}), (pgd_at, {"steps": 2}), (trades, {"steps": 2})]
)
def test_the_seed_determines_the_weights(trainer: Trainer, settings: dict[str, object]) -> None:
    threat = None if trainer is standard else Linf(0.1)
    how = recipe(augment="crop_flip")
    torch.manual_seed(1)
    one = train(trainer, threat=threat, how=how, settings=settings)
    torch.manual_seed(2)
    torch.rand(3)
    two = train(trainer, threat=threat, how=how, settings=settings)
    other = train(trainer, threat=threat, how=how, settings=settings, seed=1)
    assert torch.equal(weights(one.model), weights(two.model))
    assert [row[:4] for row in one.log] == [row[:4] for row in two.log]
    assert not torch.equal(weights(one.model), weights(other.model))
    assert not torch.equal(weights(one.model), weights(net()))


def test_training_leaves_the_global_generator_alone() -> None:
    model = net()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    train(pgd_at, model, threat=Linf(0.1), how=recipe(augment="crop_flip"), settings={"steps": 2})
    assert torch.equal(torch.get_rng_state(), state)


def test_the_given_model_comes_back_in_eval_mode() -> None:
    model = net(norm=True).train()
    trained = train(model=model)
    assert trained.model is model
    assert not any(module.training for module in model.modules())


def test_the_training_images_are_left_alone() -> None:
    before = TRAIN.x.clone()
    train(pgd_at, threat=Linf(0.1), settings={"steps": 1})
    assert torch.equal(TRAIN.x, before)
    assert not TRAIN.x.requires_grad


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    seen: list[tuple[float, list[int]]] = []

    @from_loss
    def spy(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        at = step.draws.ids - 100
        assert torch.equal(x, TRAIN.x[at])
        assert torch.equal(y, TRAIN.y[at])
        seen.append((step.progress, step.draws.ids.tolist()))
        return F.cross_entropy(model(x), y)

    train(spy, how=recipe(epochs=2))
    assert [len(ids) for _, ids in seen] == [16, 16, 13] * 2
    first, second = ([i for _, ids in part for i in ids] for part in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == IDS.tolist()
    assert first != second != IDS.tolist() != first
    assert [progress for progress, _ in seen] == pytest.approx([i / 6 for i in range(6)])


def test_every_step_draws_other_numbers() -> None:
    drawn: list[Tensor] = []

    @from_loss
    def spy(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        drawn.append(step.draws.uniform(1)[step.draws.ids == 107])
        return F.cross_entropy(model(x), y)

    train(spy, how=recipe(epochs=4))
    numbers = torch.cat(drawn).flatten()
    assert len(numbers) == len(numbers.unique()) == 4


# ---- updates ----


def order_of(seed: int, how: Recipe) -> list[Tensor]:
    """The batches, as a loss sees them."""
    seen: list[Tensor] = []

    @from_loss
    def spy(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        seen.append(step.draws.ids - 100)
        return F.cross_entropy(model(x), y)

    train(spy, seed=seed, how=how)
    return seen


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "triangular", "cyclic", "piecewise"])
def test_sgd_literally(schedule: str) -> None:
    """Momentum 0.9 and weight decay as in PyTorch's SGD: v <- 0.9 v + g + decay w; w <- w - lr v."""
    how = recipe(
        optimiser="sgd", lr=0.05, weight_decay=0.01, schedule=schedule, keep="last", epochs=2
    )
    model = net()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    batches, losses = order_of(4, how), []
    for i, batch in enumerate(batches):
        model.zero_grad()
        loss = F.cross_entropy(model(TRAIN.x[batch]), TRAIN.y[batch])
        loss.backward()
        losses.append(loss.item() * len(batch))
        with torch.no_grad():
            for p, v in zip(model.parameters(), velocity, strict=True):
                assert p.grad is not None
                v.mul_(0.9).add_(p.grad + 0.01 * p)
                p.sub_(0.05 * rate(schedule, (i + 0.5) / len(batches)) * v)
    trained = train(seed=4, how=how)
    torch.testing.assert_close(weights(trained.model), weights(model), rtol=1e-5, atol=1e-6)
    assert [row.loss for row in trained.log] == pytest.approx(
        [sum(losses[:3]) / N, sum(losses[3:]) / N], rel=1e-5
    )


def test_adam_literally() -> None:
    how = recipe(schedule="constant", weight_decay=0.01, keep="last", epochs=1, lr=0.02)
    model = net()
    first, second = ([torch.zeros_like(p) for p in model.parameters()] for _ in range(2))
    for t, batch in enumerate(order_of(4, how), start=1):
        model.zero_grad()
        F.cross_entropy(model(TRAIN.x[batch]), TRAIN.y[batch]).backward()
        with torch.no_grad():
            for p, m, v in zip(model.parameters(), first, second, strict=True):
                assert p.grad is not None
                g = p.grad + 0.01 * p
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g**2)
                p.sub_(0.02 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))
    trained = train(seed=4, how=how)
    torch.testing.assert_close(weights(trained.model), weights(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        ("constant", {0: 1, 0.5: 1, 1: 1}),
        ("onecycle", {0: 0, 0.15: 0.5, 0.3: 1, 0.475: (1 + math.cos(math.pi / 4)) / 2, 0.65: 0.5,
                      1: 0}),
        ("triangular", {0: 0, 0.25: 0.5, 0.5: 1, 0.75: 0.5, 1: 0}),
        ("cyclic", {0: 0, 0.2: 0.5, 0.4: 1, 0.7: 0.5, 1: 0}),
        ("piecewise", {0: 1, 0.499: 1, 0.5: 0.1, 0.749: 0.1, 0.75: 0.01, 1: 0.01}),
    ],
)  # fmt: skip
def test_rates_at_known_points(schedule: str, points: dict[float, float]) -> None:
    assert {at: rate(schedule, at) for at in points} == pytest.approx(points, abs=1e-12)


def test_onecycle_is_continuous_and_never_negative() -> None:
    values = [rate("onecycle", i / 1000) for i in range(1001)]
    assert min(values) >= 0
    assert max(abs(b - a) for a, b in pairwise(values)) < 0.005


def test_training_learns() -> None:
    model = net()
    trained = train(model=model, how=recipe(epochs=30, lr=0.02))
    assert trained.log[-1].loss < 0.3 * trained.log[0].loss
    assert (model(VALIDATION.x).argmax(1) == VALIDATION.y).float().mean() > 0.9


def test_the_log_has_a_row_per_epoch_and_each_is_announced() -> None:
    told: list[Epoch] = []
    trained = standard(
        net(), TRAIN, VALIDATION, recipe=recipe(schedule="piecewise", epochs=4, lr=0.1),
        threat=None, seed=0, on_epoch=told.append,
    )  # fmt: skip
    assert told == trained.log
    assert [row.epoch for row in told] == [0, 1, 2, 3]
    assert [row.lr for row in told] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert all(row.seconds > 0 for row in told)


# ---- which epoch is kept ----


class Threshold(nn.Module):
    """Class 1 where the image's mean is below t."""

    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([mean, self.t.expand_as(mean)], 1)


@from_loss
def rising(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
    """t rises by 0.1 in an epoch of one step (with a velocity that starts at 0: 0.1, 0.29, 0.561, ...)."""
    t: Tensor = model.t  # type: ignore[assignment]
    return -t


MEANS = torch.linspace(0.2, 0.8, 31)
FLAT = Images(MEANS.view(-1, 1, 1, 1).repeat(1, 1, 3, 3), (MEANS < 0.5).long(), torch.arange(31))


def rise(
    keep: str, threat: Linf | None = None, flat: Images = FLAT, trainer: Trainer = rising,
    selection: Linf | None = None,
) -> tuple[Trained, list[float]]:  # fmt: skip
    model, at = Threshold(), []
    trained = trainer(
        model, FLAT, flat, threat=threat, seed=0, selection=selection,
        recipe=recipe(keep=keep, epochs=5, batch_size=31, optimiser="sgd", lr=0.1, schedule="constant"),
        on_epoch=lambda epoch: at.append(model.t.item()),
    )  # fmt: skip
    assert at == pytest.approx([0.1, 0.29, 0.561, 0.9049, 1.31441], rel=1e-4)
    return trained, at


def test_best_keeps_the_best_epoch_not_the_last() -> None:
    trained, at = rise("best")
    expected = [((t > MEANS) == (MEANS < 0.5)).float().mean().item() for t in at]
    assert [row.validation for row in trained.log] == pytest.approx(expected)
    assert trained.kept == max(range(5), key=expected.__getitem__) == 2
    assert trained.model.t.item() == at[2]


def test_last_keeps_the_last_epoch_and_validates_nothing() -> None:
    trained, at = rise("last")
    assert trained.kept == 4
    assert trained.model.t.item() == at[4]
    assert all(math.isnan(row.validation) for row in trained.log)


def test_of_equally_good_epochs_the_later_is_kept() -> None:
    low = Images(FLAT.x[:3] * 0, torch.tensor([1, 1, 1]), torch.arange(3))  # right from epoch 0 on
    trained, at = rise("best", flat=low)
    assert [row.validation for row in trained.log] == [1.0] * 5
    assert (trained.kept, trained.model.t.item()) == (4, at[4])


@pytest.mark.parametrize(("settled", "kept"), [(0.0, 2), (0.4, 2), (0.59, 2), (0.6, 4), (1.0, 4)])
def test_no_epoch_is_kept_that_ends_before_the_loss_is_the_methods_own(
    settled: float, kept: int
) -> None:
    @from_objective
    def late(model: nn.Module, setup: Setup) -> Objective:
        return Objective(lambda x, y, step: -model.t, settled=settled)  # type: ignore[operator]

    trained, at = rise("best", trainer=late)
    assert (trained.kept, trained.model.t.item()) == (kept, at[kept])


def test_an_epoch_that_ends_where_the_loss_settles_is_not_kept_whatever_the_rounding() -> None:
    setup = Setup(TRAIN, VALIDATION, recipe(epochs=100), None, None, 0)
    objective = Objective(lambda x, y, step: x.sum(), settled=0.29)
    assert Loop(net(), setup, objective).first == 29


def test_jarn_is_settled_when_its_critic_starts() -> None:
    setup = Setup(TRAIN, VALIDATION, recipe(), None, None, 0)
    make = jarn.__wrapped__  # type: ignore[attr-defined]
    assert make(net(), setup, start=0.5, channels=1).settled == 0.5


@pytest.mark.parametrize(
    ("threat", "selection"), [(Linf(0.1), None), (None, Linf(0.1)), (Linf(0.3), Linf(0.1))]
)
def test_with_a_threat_the_best_epoch_has_the_best_mean_of_clean_and_robust_accuracy(
    threat: Linf | None, selection: Linf | None
) -> None:
    """Under Linf an image holds if its mean is farther than eps from t: PGD moves all pixels alike."""
    trained, at = rise("best", threat, selection=selection)
    robust = [
        (((t > MEANS) == (MEANS < 0.5)) & ((MEANS - t).abs() > 0.1)).float().mean().item()
        for t in at
    ]
    clean = [((t > MEANS) == (MEANS < 0.5)).float().mean().item() for t in at]
    expected = [sum(pair) / 2 for pair in zip(robust, clean, strict=True)]
    assert [row.validation for row in trained.log] == pytest.approx(expected)
    assert expected != pytest.approx(clean)
    assert expected != pytest.approx(robust)
    assert trained.kept == max(range(5), key=expected.__getitem__)
    assert trained.model.t.item() == at[trained.kept]


def test_best_restores_batchnorms_statistics_as_well() -> None:
    """Stopping after the kept epoch (at a constant rate) gives the very same model."""

    def spoiled() -> Trainer:
        taken = []

        @from_loss
        def loss(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
            taken.append(step)
            return F.cross_entropy(model(x), y) * (1 if len(taken) <= 9 else -3)

        return loss

    def run(**changes: object) -> Trained:
        how = recipe(schedule="constant", lr=0.05, **changes)
        return train(spoiled(), net(norm=True), how=how)

    trained = run(epochs=6, keep="best")
    assert trained.kept < 5
    assert trained.log[5].validation < trained.log[trained.kept].validation
    assert same_state(trained.model, run(epochs=trained.kept + 1, keep="last").model)
    assert not same_state(trained.model, run(epochs=6, keep="last").model)


# ---- failures ----


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_says_where(value: float) -> None:
    @from_loss
    def breaking(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        loss = F.cross_entropy(model(x), y)
        return loss + value if step.progress > 0.5 else loss

    # 3 steps in each of 3 epochs: the first beyond one half is the third of the second epoch
    with pytest.raises(Diverged, match=rf"loss is {value} in epoch 2, step 3 \(lr 0.01\)"):
        train(breaking, how=recipe(schedule="constant"))


def test_a_loss_for_each_image_is_refused() -> None:
    @from_loss
    def each(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return F.cross_entropy(model(x), y, reduction="none")

    with pytest.raises(ValueError, match=r"the loss must be one number, got \(\d+,\)"):
        train(each)


def test_a_divergent_step_is_not_taken() -> None:
    @from_loss
    def broken(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        return F.cross_entropy(model(x), y) * math.nan

    model = net()
    with pytest.raises(Diverged):
        train(broken, model)
    assert torch.equal(weights(model), weights(net()))


@pytest.mark.parametrize("trainer", [pgd_at, trades])
def test_a_trainer_that_needs_a_threat_says_so(trainer: Trainer) -> None:
    with pytest.raises(ValueError, match="this trainer needs a threat, as in"):
        train(trainer)


def test_a_lifted_loss_keeps_name_docstring_and_settings() -> None:
    assert trades.__name__ == "trades"
    assert (inspect.getdoc(trades) or "").startswith("Cross-entropy on clean images plus")
    with pytest.raises(TypeError, match="betta"):
        train(trades, threat=Linf(0.1), settings={"betta": 1})


# ---- BatchNorm ----


def test_adversarial_training_leaves_batchnorm_as_its_training_passes_alone_would() -> None:
    """Neither the attack nor the validation (PGD-10 under the threat) moves the running statistics."""
    model, seen = net(norm=True), []
    model.register_forward_pre_hook(
        lambda m, inputs: (
            seen.append((inputs[0].detach().clone(), copy.deepcopy(m.state_dict())))
            if m is model and m.training
            else None
        )
    )
    train(pgd_at, model, threat=Linf(0.1), how=recipe(keep="last"), settings={"steps": 3})
    assert len(seen) == 9
    replay, batchnorm = net(norm=True).train(), model[1]
    for batch, state in seen:
        statistics = copy.deepcopy(replay[1].state_dict())
        replay.load_state_dict(state)  # the weights of that step,
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            # with statistics that were carried along here alone
            assert torch.equal(state[f"1.{name}"], statistics[name])
        replay(batch)
    assert torch.equal(batchnorm.running_mean, replay[1].running_mean)
    assert torch.equal(batchnorm.running_var, replay[1].running_var)
    assert batchnorm.num_batches_tracked == 9


def test_adversarial_training_trains_on_what_the_attack_makes_in_eval_mode() -> None:
    """The first batch, made again from outside."""
    model, seen = net(norm=True), []
    model.register_forward_pre_hook(
        lambda m, inputs: (
            seen.append(inputs[0].detach().clone()) if m is model and m.training else None
        )
    )
    how, threat = recipe(epochs=1), Linf(0.1)
    train(pgd_at, model, threat=threat, how=how, settings={"steps": 3, "random_start": False})
    first = order_of(0, how)[0]
    expected = attacks.pgd(
        net(norm=True).eval(), TRAIN.x[first], TRAIN.y[first], threat, steps=3, step_size=0.25 / 3
    )
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-6)
    assert not torch.equal(seen[0], TRAIN.x[first])


# ---- augmentation ----


def crops(image: Tensor) -> dict[tuple[int, int, bool], Tensor]:
    """Every crop of the image in a frame of 4 black pixels, and its mirror image."""
    _, height, width = image.shape
    framed, out = torch.zeros(len(image), height + 8, width + 8), {}
    framed[:, 4:-4, 4:-4] = image
    for i in range(9):
        for j in range(9):
            out[i, j, False] = framed[:, i : i + height, j : j + width]
            out[i, j, True] = out[i, j, False].flip(2)
    return out


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 8), (2, 9, 4)])
def test_crop_flip_literally(shape: tuple[int, ...]) -> None:
    """Each image is one of the 9 x 9 crops of itself in a frame of 4 black pixels, or its mirror image."""
    n = 400
    draws = Draws(0, torch.arange(n))
    x = Draws(1, torch.arange(n)).uniform(*shape)
    got = augment("crop_flip", x, draws)
    assert got.shape == x.shape
    found: Counter[tuple[int, int, bool]] = Counter()
    for image, moved in zip(x, got, strict=True):
        candidates = crops(image)
        matches = [
            where for where, candidate in candidates.items() if torch.equal(moved, candidate)
        ]
        assert matches
        if len(matches) == 1:  # otherwise too little of the image is left to tell
            found[matches[0]] += 1
    told = sum(found.values())
    assert told > 0.6 * n
    rows, columns = (Counter(key[axis] for key in found.elements()) for axis in (0, 1))
    if min(shape[1:]) > 4:
        assert set(rows) == set(columns) == set(range(9))
        assert max(rows.values()) < 0.25 * told
    flipped = sum(count for (_, _, flip), count in found.items() if flip)
    assert flipped == pytest.approx(told / 2, abs=2.5 * math.sqrt(told))


def test_augmentation_belongs_to_the_image_and_its_draws() -> None:
    draws = Draws(0, torch.arange(20))
    x = Draws(1, torch.arange(20)).uniform(1, 6, 6)
    got = augment("crop_flip", x, draws)
    assert torch.equal(got[5:8], augment("crop_flip", x[5:8], draws[5:8]))
    assert not torch.equal(got, augment("crop_flip", x, draws.fork("other")))


def test_no_augmentation_changes_nothing() -> None:
    assert augment("none", TRAIN.x, Draws(0, IDS)) is TRAIN.x


def test_the_loop_augments_anew_in_every_epoch() -> None:
    seen: dict[int, list[Tensor]] = {}

    @from_loss
    def spy(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        for i, image in zip(step.draws.ids.tolist(), x, strict=True):
            seen.setdefault(i, []).append(image)
        return F.cross_entropy(model(x), y)

    train(spy, how=recipe(augment="crop_flip", epochs=2))
    changed = [not torch.equal(*pair) for pair in seen.values()]
    assert sum(changed) > 0.9 * N


# ---- cost and budget ----


# passes forward and back by the lines `Cost` of the cards (a double-backward pass is one back), for three classes
PASSES: list[tuple[str, dict[str, object], tuple[int, int]]] = [
    ("standard", {}, (1, 1)),
    ("gaussian_noise", {}, (1, 1)),
    ("fgsm_rs", {}, (2, 2)),
    ("n_fgsm", {}, (2, 2)),
    ("grad_align", {}, (3, 3 + 1)),
    ("free_at", {"replays": 4}, (1, 1)),
    ("pgd_at", {"steps": 3}, (4, 4)),
    ("trades", {"steps": 3}, (6, 5)),
    ("mart", {"steps": 3}, (5, 5)),
    ("awp", {"steps": 3}, (5, 5)),
    ("awp", {"on": "trades", "steps": 3, "warm_up": 0.0}, (8, 7)),
    ("input_gradient", {}, (2, 2 + 1)),
    ("finite_difference", {}, (4, 4)),
    ("jacobian", {}, (2, 2 + 1)),
    ("jacobian", {"projections": 3}, (2, 4 + 3)),
    ("jacobian", {"projections": 0}, (2, 4 + 3)),
    ("cure", {}, (3, 3 + 2)),
    ("sagr", {"false_rows": 1}, (2, 3 + 2)),
    ("sagr", {"false_rows": 0}, (2, 4 + 3)),
    ("sagr", {"reading": "all", "projections": 2}, (2, 3 + 2)),
    ("adv_gsct", {}, (4, 4 + 1)),
    ("adv_gsct", {"symmetric": True}, (4, 4 + 2)),
    # with its other terms off it is fgsm_rs, with the first term off, too, standard training
    ("adv_gsct", {"consensus_weight": 0.0, "offend": "step"}, (2, 2)),
    (
        "adv_gsct",
        {"consensus_weight": 0.0, "offend": "step", "offending_weight": 0.0, "clean_weight": 1.0},
        (1, 1),
    ),
    ("saliency_guided", {}, (3, 3)),
    ("jarn", {"start": 0.0}, (2, 2 + 1)),
    ("pag", {}, (2, 4 + 3)),
]


@pytest.mark.parametrize(("name", "settings", "passes"), PASSES, ids=str)
def test_the_cost_of_a_step_is_what_the_card_says(
    name: str, settings: dict[str, object], passes: tuple[int, int]
) -> None:
    cost = train(card("trainers", name).load(), threat=Linf(0.1), settings=settings).cost
    assert cost[:2] == passes


def test_the_costs_of_all_trainers_are_checked() -> None:
    assert {name for name, _, _ in PASSES} == {*cards("trainers")} - {"interpretation"}


def test_what_is_spent_before_the_first_step_is_part_of_the_cost() -> None:
    """The teacher's training, of as many epochs, and 20 passes of it over the images for its maps."""
    taught, own = train(pgd_at, threat=Linf(0.1)), (2, 2 + 1)
    cost = train(interpretation, threat=Linf(0.1)).cost
    for part, passes in enumerate(own):
        assert cost[part] == pytest.approx(passes + taught.cost[part] + 20 / 3)
    assert cost.work > taught.cost.work + 20 / 3 * 0.5


def test_teacher_and_model_share_a_budget_of_cost() -> None:
    how = recipe(epochs=60, budget="cost")
    trained = train(interpretation, threat=Linf(0.1), how=how)
    assert 0.8 * 60 < trained.cost.work * len(trained.log) < 1.1 * 60


def test_the_work_of_standard_training_is_one() -> None:
    assert train(standard, net(norm=True)).cost.work == 1


def test_the_work_of_adversarial_training_is_that_of_its_passes() -> None:
    """By hand, for a linear model: a pass forward or back is one product, and the attack's gradient is in the image
    alone, so that a step of standard training costs 2 (its image needs no gradient) and one of the attack's 2."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    cost = train(pgd_at, linear, threat=Linf(0.1), settings={"steps": 5}).cost
    assert cost.work == pytest.approx((2 * 5 + 2) / 2, rel=0.2)


def test_what_is_done_once_an_epoch_is_not_taken_for_every_step() -> None:
    """In each of three epochs of 15 steps the first has a second pass."""

    @from_loss
    def careful(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        first = (step.progress * 3) % 1 < 1e-6
        return F.cross_entropy(model(x), y) + (F.cross_entropy(model(x), y) if first else 0)

    assert train(careful, how=recipe(epochs=3, batch_size=3)).cost[:2] == pytest.approx(
        (16 / 15,) * 2
    )


def late(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
    """A second pass in the last eighth of the training."""
    loss = F.cross_entropy(model(x), y)
    return loss + F.cross_entropy(model(x), y) if step.progress >= 0.875 else loss


phased = from_loss(late)


@pytest.mark.parametrize(("epochs", "batch"), [(10, 3), (20, 5), (40, 3)])
def test_phases_and_rhythms_are_in_the_cost(epochs: int, batch: int) -> None:
    """A second pass in every fifth step, and another in the last eighth of the training, whatever its length."""
    done = 0

    @from_loss
    def rhythmic(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        nonlocal done
        done += 1
        return late(model, x, y, step) + (F.cross_entropy(model(x), y) if done % 5 == 0 else 0)

    cost = train(rhythmic, how=recipe(epochs=epochs, batch_size=batch)).cost
    assert cost[:2] == pytest.approx((1 + 1 / 8 + 1 / 5,) * 2, abs=0.07)


def test_a_budget_pays_for_late_phases() -> None:
    trained = train(phased, how=recipe(epochs=100, budget="cost"))
    assert len(trained.log) == round(100 / (1 + 1 / 8)) == 89


def test_a_budget_of_cost_shortens_what_costs_more() -> None:
    how = recipe(epochs=12, budget="cost")
    assert len(train(standard, how=how).log) == 12
    attacked = train(pgd_at, threat=Linf(0.1), how=how, settings={"steps": 5})
    assert len(attacked.log) == round(12 / attacked.cost.work) < 4


@pytest.mark.parametrize("dropout", [False, True])
def test_measuring_the_cost_changes_nothing(dropout: bool) -> None:
    """What is done to find out what the budget pays for is undone: statistics, optimiser, torch's own generator."""
    ended = []
    for budget in ("epochs", "cost"):
        torch.manual_seed(1)
        model = with_dropout() if dropout else net(norm=True)
        ended.append(train(standard, model, how=recipe(budget=budget)).model)
    assert same_state(*ended)


# ---- averaging, order, precision ----


def numbers(model: nn.Module) -> Tensor:
    """Weights and running statistics, without the count of batches."""
    return torch.cat([v.flatten() for v in model.state_dict().values() if v.is_floating_point()])


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    """Literally: after every step, average <- d average + (1 - d) weights, from the first step's weights on; d is the
    decay, but (1 + t) / (10 + t) while that is less. BatchNorm's statistics are averaged like weights."""
    model, seen = net(norm=True), []

    @from_loss
    def spy(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        seen.append(numbers(model).clone())
        return F.cross_entropy(model(x), y)

    trained = train(spy, model, how=recipe(ema=0.45, keep="last", epochs=4))
    last = numbers(train(standard, net(norm=True), how=recipe(keep="last", epochs=4)).model)
    steps = [*seen[1:], last]
    average = steps[0]
    for t, after in enumerate(steps[1:], start=1):
        decay = min(0.45, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * after
    torch.testing.assert_close(numbers(trained.model), average)
    assert not torch.allclose(average, last, rtol=1e-3)


def test_the_best_epoch_is_the_averages() -> None:
    """t of the average: 0.1, then d t + (1 - d) 0.29 with d = 2/11, and so on; the first is 0.5 nearest."""
    model, average, expected = Threshold(), 0.1, []
    trained = rising(
        model, FLAT, FLAT, threat=None, seed=0,
        recipe=recipe(epochs=5, batch_size=31, optimiser="sgd", lr=0.1, schedule="constant", ema=0.9),
    )  # fmt: skip
    for t, now in enumerate([0.1, 0.29, 0.561, 0.9049, 1.31441]):
        decay = min(0.9, (1 + t) / (10 + t)) if t else 0.0
        average = decay * average + (1 - decay) * now
        expected.append(((average > MEANS) == (MEANS < 0.5)).float().mean().item())
    assert [row.validation for row in trained.log] == pytest.approx(expected)


def test_the_average_of_a_short_training_is_a_trained_model() -> None:
    """At the usual decay of 0.999 the first of 90 steps would have nine tenths of the weight."""
    losses = []
    for decay in (0.0, 0.999):
        model = train(how=recipe(epochs=30, lr=0.02, ema=decay, keep="last")).model
        losses.append(F.cross_entropy(model(VALIDATION.x), VALIDATION.y).item())
    untrained = F.cross_entropy(net()(VALIDATION.x), VALIDATION.y).item()
    assert losses[1] < 1.5 * losses[0] < 0.3 * untrained


def test_batches_may_come_in_the_stored_order() -> None:
    seen: list[int] = []

    @from_loss
    def spy(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        seen.extend(step.draws.ids.tolist())
        return F.cross_entropy(model(x), y)

    train(spy, how=recipe(epochs=2, order="stored"))
    assert seen == IDS.tolist() * 2


def test_mixed_precision_trains() -> None:
    how = recipe(precision="bfloat16")
    mixed, plain = train(how=how).model, train().model
    assert all(p.dtype == torch.float32 for p in mixed.parameters())
    assert not torch.equal(weights(mixed), weights(plain))
    torch.testing.assert_close(weights(mixed), weights(plain), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "trainer",
    [adv_gsct, cure, grad_align, input_gradient, interpretation, jacobian, jarn, pag, sagr],
)
def test_mixed_precision_is_refused_before_the_first_step_ends(trainer: Trainer) -> None:
    def unexpected(epoch: Epoch) -> None:
        raise AssertionError(epoch)

    how = recipe(precision="bfloat16")
    with pytest.raises(ValueError, match="set precision = 'float32' in its recipe"):
        trainer(net(), TRAIN, VALIDATION, recipe=how, threat=Linf(0.1), seed=0, on_epoch=unexpected)


def test_a_last_step_that_ruins_the_model_is_told() -> None:
    how = recipe(optimiser="sgd", lr=1e30, schedule="constant", epochs=1, batch_size=N, keep="last")
    with pytest.raises(Diverged, match="epoch 1 gives logits that are not finite"):
        train(how=how)


@pytest.mark.parametrize(("trainer", "passes"), [(pgd_at, 11), (fgsm_rs, 2)])
def test_the_attack_may_see_batchnorm_in_train_mode(trainer: Trainer, passes: int) -> None:
    """Its passes then move the statistics, as those of the authors' code do."""
    frozen, moved = (
        train(trainer, net(norm=True), threat=Linf(0.1), settings={"attack_bn": mode})
        for mode in ("eval", "train")
    )
    counts = [t.model.get_buffer("1.num_batches_tracked").item() for t in (frozen, moved)]
    assert counts == [9, 9 * passes]
    assert not torch.equal(weights(frozen.model), weights(moved.model))


# ---- continuing ----


class Kept:
    """Snapshots in memory, by way of bytes as on a disk; interrupts the training after some epochs."""

    def __init__(self) -> None:
        self.content = b""

    def load(self) -> dict[str, Any] | None:
        return torch.load(io.BytesIO(self.content), weights_only=True) if self.content else None

    def offer(self, make: Callable[[], dict[str, Any]]) -> None:
        buffer = io.BytesIO()
        torch.save(make(), buffer)
        self.content = buffer.getvalue()


class Killed(Exception):
    pass


def with_dropout() -> nn.Sequential:
    """As a user's network may be: what it drops is drawn by torch's own generator."""
    return nn.Sequential(*net(norm=True)[:3], nn.Dropout(0.5), net(norm=True)[3])


@pytest.mark.parametrize("make", [partial(net, norm=True), with_dropout])
@pytest.mark.parametrize("changes", [{}, {"optimiser": "sgd", "ema": 0.9}, {"keep": "last"}])
def test_an_interrupted_training_continues_to_the_same_weights(
    changes: dict[str, Any], make: Callable[[], nn.Module]
) -> None:
    arguments: dict[str, Any] = {
        "recipe": recipe(epochs=5, **changes),
        "threat": Linf(0.1),
        "seed": 0,
    }
    torch.manual_seed(1)
    whole = pgd_at(make(), TRAIN, VALIDATION, **arguments)

    def die(epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise Killed

    kept = Kept()
    torch.manual_seed(1)
    with pytest.raises(Killed):
        pgd_at(make(), TRAIN, VALIDATION, **arguments, on_epoch=die, snapshots=kept)
    told: list[Epoch] = []
    again = pgd_at(make(), TRAIN, VALIDATION, **arguments, on_epoch=told.append, snapshots=kept)
    assert same_state(whole.model, again.model)
    # as text: a validation that was not computed is NaN
    rows = [str([row[:4] for row in log]) for log in (whole.log, again.log, told)]
    assert rows[0] == rows[1] == rows[2]
    assert again.kept == whole.kept
    assert again.cost == whole.cost


def test_an_interrupted_training_of_several_phases_has_the_cost_of_a_whole_one() -> None:
    kept, how = Kept(), recipe(epochs=8)
    whole = train(phased, how=how)

    def die(epoch: Epoch) -> None:
        if epoch.epoch == 4:
            raise Killed

    arguments: dict[str, Any] = {"recipe": how, "threat": None, "seed": 0, "snapshots": kept}
    with pytest.raises(Killed):
        phased(net(), TRAIN, VALIDATION, **arguments, on_epoch=die)
    assert phased(net(), TRAIN, VALIDATION, **arguments).cost == whole.cost
    assert whole.cost.forward == pytest.approx(1 + 1 / 8)


def test_a_snapshot_without_generators_is_continued() -> None:
    """Those of before they were kept."""
    kept, arguments = Kept(), {"recipe": recipe(), "threat": None, "seed": 0}
    whole = standard(net(), TRAIN, VALIDATION, **arguments, snapshots=kept)
    snapshot = kept.load()
    assert snapshot
    del snapshot["generators"]
    kept.offer(lambda: snapshot)
    again = standard(net(), TRAIN, VALIDATION, **arguments, snapshots=kept)
    assert same_state(whole.model, again.model)


def test_the_radius_rises_where_the_recipe_says_so() -> None:
    seen: list[float] = []

    @from_loss
    def spy(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
        seen.append(step.threat.eps)
        return F.cross_entropy(model(x), y)

    train(spy, threat=Linf(0.2), how=recipe(epochs=4, batch_size=N, eps_ramp=0.5))
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.2])


def test_the_memory_format_is_that_of_the_recipe_while_training_and_plain_afterwards() -> None:
    convolutions = [nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(144, 3))
    seen = []

    @from_loss
    def watched(model: nn.Sequential, x: Tensor, y: Tensor, step: Step) -> Tensor:
        seen.append(model[1].weight.is_contiguous(memory_format=torch.channels_last))
        return F.cross_entropy(model(x), y)

    told = recipe(memory_format="channels_last", epochs=1)
    trained = watched(model, TRAIN, VALIDATION, recipe=told, threat=None, seed=0)
    assert seen
    assert all(seen)
    assert trained.model[1].weight.is_contiguous()
