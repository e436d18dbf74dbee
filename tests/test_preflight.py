"""Preflight: every check fires for a model that is wrong in its way, alone, and is silent for honest models.

The checks that compare accuracies (range, labels, chance) need a trained network: tests/test_wrong_wrappers.py has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmark.gradient_masking import LEVELS, Finding
from benchmark.measuring.place import dataset
from benchmark.plan import DataSpec
from benchmark.preflight import CHECKS, PASSED, REMEDIES, preflight
from benchmark.preflight._labelled import better_than_chance
from benchmark.preflight._outputs import deterministic
from benchmark.preflight._subject import Subject
from metrics.randomness import Draws

N, CLASSES = 16, 4
X = Draws(0, torch.arange(N)).uniform(1, 6, 6)
Y = torch.arange(N) % CLASSES


class Around(nn.Module):
    """A model around the small network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()
        self.eval()


def around(forward: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[], nn.Module]:
    """What makes a model that computes `forward(network, images)`."""
    return type("Wrong", (Around,), {"forward": lambda self, x: forward(self.net, x)})


@pytest.fixture(autouse=True)
def own_generator() -> None:
    torch.manual_seed(0)


def small() -> nn.Sequential:
    return gathered(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES)
    ).eval()


def gathered(*layers: nn.Module) -> nn.Sequential:
    """In train mode, with the statistics of a network that was trained."""
    net = nn.Sequential(*layers)
    for _ in range(10):
        net(X)
    return net


def scaled(factor: float) -> nn.Linear:
    layer = nn.Linear(CLASSES, CLASSES, bias=False)
    with torch.no_grad():
        layer.weight.copy_(factor * torch.eye(CLASSES))
    return layer


class Changed(torch.autograd.Function):
    """The images as `change` has them, with the gradient as `slope` has it."""

    @staticmethod
    def forward(ctx, x, change, slope):
        ctx.slope = slope
        return change(x)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.slope(gradient), None, None


def same(values: Tensor) -> Tensor:
    return values.clone()


def changed(change: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor] = same):
    return around(lambda net, x: net(Changed.apply(x, change, slope)))


def poisoned(value: float) -> Callable[[], nn.Module]:
    third = torch.arange(N)[:, None] == 3
    return around(lambda net, x: net(x).masked_fill(third[: len(x)], value))


def ascended(net: nn.Module, x: Tensor) -> Tensor:
    """A step that makes the network surer, by autograd."""
    with torch.enable_grad():
        free = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(net(free).logsumexp(1).sum(), free)
    return net(x + 1e-3 * gradient)


def ascended_by_func(net: nn.Module, x: Tensor) -> Tensor:
    return net(x + 1e-3 * torch.func.grad(lambda free: net(free).logsumexp(1).sum())(x))


def searched(net: nn.Module, x: Tensor) -> Tensor:
    """The same without autograd: the surest of three images nearby."""
    with torch.no_grad():
        near = [x, x + 1e-3, x - 1e-3]
        best = torch.stack([net(one).amax(1) for one in near]).argmax(0)
        moved = torch.stack(near)[best, torch.arange(len(x))]
    return net(x + (moved - x).detach())


def in_place(net: nn.Module, x: Tensor) -> Tensor:
    return net(x.mul_(0.5))


def suspicious(net: nn.Module, x: Tensor) -> Tensor:
    """Other logits for whom asks for gradients."""
    return net(x) + x.requires_grad * torch.arange(CLASSES)


def in_half(net: nn.Module) -> nn.Module:
    """Stored in 16 bits; the last layer computes in 32, so that its logits do not show it."""
    net[4].weight.data = net[4].weight.half()
    net[4].forward = lambda x: nn.functional.linear(x, net[4].weight.float(), net[4].bias)
    return net


class Rows(nn.Module):
    """The cell runs once a row, what reads its last state once."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(6, 8), nn.Linear(8, CLASSES)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 8)
        for row in x[:, 0].unbind(1):
            state = self.cell(row, state)
        return self.head(state)


def sharing(activation: nn.Module) -> nn.Module:
    layers = [
        nn.Linear(36, 20),
        activation,
        nn.Linear(20, 20),
        activation,
        nn.Linear(20, 20),
        activation,
    ]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(20, CLASSES)).eval()


class Unregistered(nn.Module):
    """The network is in a plain list, where PyTorch does not look for modules."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.nets, self.wrong = [small().requires_grad_(False)], forward
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.wrong(self.nets[0], x)


def autocast(net: nn.Module, x: Tensor) -> Tensor:
    """In bfloat16 but for the last layer."""
    with torch.autocast("cpu", torch.bfloat16):
        features = net[:4](x)
    return net[4](features.float())


def seen(model: nn.Module) -> dict[str, Finding]:
    """What preflight found, but that these networks were never trained."""
    found = preflight(model, X, Y, CLASSES)
    return {check: finding for check, finding in found.items() if check != "chance"}


HONEST = {
    "convolutional": small,
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)),
    "sure of itself": lambda: nn.Sequential(small(), scaled(100.0)),
    "unsure": lambda: nn.Sequential(small(), scaled(1e-3)),
    "all logits positive": lambda: nn.Sequential(small(), scaled(10.0), nn.Softplus()),
    "centred logits": around(lambda net, x: 10 * (net(x) - net(x).mean(1, keepdim=True))),
    "a recurrent cell over rows": lambda: Rows(),
    "one PReLU for all layers": lambda: sharing(nn.PReLU()),
    "all logits negative": lambda: nn.Sequential(small(), nn.Softplus(), scaled(-1.0)),
    "dropout switched off": lambda: nn.Sequential(nn.Dropout(0.5), small()).eval(),
    "max-pooling": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(9, CLASSES)),
    "clamped to [0, 1]": around(lambda net, x: net(x.clamp(0, 1))),
    "a layer used twice": around(lambda net, x: net(x) + net(1 - x)),
    "in float64": around(lambda net, x: net(x).double()),
    "8-bit images": changed(lambda x: (255 * x).round() / 255),
    "group norm": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.GELU(),
                                        nn.Flatten(), nn.Linear(64, CLASSES)),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_passes_every_check(name: str) -> None:
    found = seen(HONEST[name]().requires_grad_(False))
    assert found == dict.fromkeys((check for check in CHECKS if check != "chance"), PASSED)


WRONG = {
    "NaN": (poisoned(torch.nan), "not-finite"),
    "infinity": (poisoned(torch.inf), "not-finite"),
    "a class too many": (lambda: nn.Sequential(small(), nn.Linear(CLASSES, CLASSES + 1)), "class-count"),
    "a class too few": (lambda: nn.Sequential(small(), nn.Linear(CLASSES, CLASSES - 1)), "class-count"),
    "changes its input": (around(in_place), "input-changed"),
    "dropout on": (lambda: nn.Sequential(nn.Dropout(0.5), small()), "train-mode"),
    "BatchNorm in train mode": (lambda: small().train(), "train-mode"),
    "one value per channel": (
        lambda: gathered(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, CLASSES)), "train-mode"),
    "noise that eval mode leaves": (around(lambda net, x: net(nn.functional.dropout(x))), "random"),
    "statistics of the batch": (
        lambda: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), small()).eval(), "batch-dependent"),
    "float16": (around(lambda net, x: net(x).half()), "half-precision"),
    "bfloat16 made float32": (around(lambda net, x: net(x).bfloat16().float()), "half-precision"),
    "bfloat16 before the last layer": (around(autocast), "half-precision"),
    "stored in float16": (lambda: in_half(small()), "half-precision"),
    "softmax": (lambda: nn.Sequential(small(), nn.Softmax(1)), "probabilities"),
    "softmax times 10": (lambda: nn.Sequential(small(), nn.Softmax(1), scaled(10.0)), "probabilities"),
    "softmax less 0.1": (around(lambda net, x: net(x).softmax(1) - 0.1), "probabilities"),
    "sigmoid": (lambda: nn.Sequential(small(), nn.Sigmoid()), "bounded"),
    "log10 of a softmax": (around(lambda net, x: net(x).softmax(1).log10()), "log-probabilities"),
    "log2 of a softmax": (around(lambda net, x: net(x).softmax(1).log2()), "log-probabilities"),
    "log-softmax": (lambda: nn.Sequential(small(), nn.LogSoftmax(1)), "log-probabilities"),
    "detached": (around(lambda net, x: net(x.detach())), "detached"),
    "without gradients": (around(lambda net, x: torch.no_grad()(net)(x)), "detached"),
    "thresholded": (around(lambda net, x: net((x > 0.5).float())), "detached"),
    "rounded": (around(lambda net, x: net((4 * x).round() / 4)), "zero-gradient"),
    "logits x 1e4": (lambda: nn.Sequential(small(), scaled(1e4)), "saturated"),
    "straight-through": (changed(lambda x: (3 * x).round() / 3), "gradient-mismatch"),
    "gradients halved": (changed(same, lambda gradient: gradient / 2), "gradient-mismatch"),
    "gradients reversed": (changed(same, torch.neg), "gradient-mismatch"),
    "an inner loop": (around(ascended), "inner-loop"),
    "an inner loop by torch.func": (around(ascended_by_func), "inner-loop"),
    "an inner loop by hand": (around(searched), "many-passes"),
    "an inner loop by hand over what no module holds": (lambda: Unregistered(searched), "many-passes"),
    "an inner loop over what no module holds": (lambda: Unregistered(ascended), "inner-loop"),
    "two models in one": (around(suspicious), "clean-differs"),
    "BatchNorm without its buffers": (
        lambda: nn.Sequential(nn.BatchNorm2d(1), small()).eval(), "batch-norm-unset"),
}  # fmt: skip


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_model_is_told_in_its_own_words_only(name: str, trainable: bool) -> None:
    make, code = WRONG[name]
    found = seen(make().requires_grad_(trainable))
    wrong = [finding for finding in found.values() if finding != PASSED]
    assert [(finding.code, finding.level) for finding in wrong] == [(code, REMEDIES[code][0])]
    assert wrong[0].remedy == REMEDIES[code][1]


def test_the_gradient_check_wants_more_than_half_of_the_images() -> None:
    def cut(first: int) -> nn.Module:
        return around(lambda net, x: net(torch.cat([x[:first].detach(), x[first:]])))()

    assert preflight(cut(7), X, Y, CLASSES)["gradient"] == PASSED
    assert preflight(cut(9), X, Y, CLASSES)["gradient"].code == "zero-gradient"


def test_noise_that_comes_now_and_then_is_seen() -> None:
    calls = iter([0.0, 0.0, 0.0, 1.0, 0.0])
    rarely = around(lambda net, x: net(x) + next(calls) * torch.arange(CLASSES))()
    assert deterministic(Subject(rarely, X, Y, CLASSES)).code == "random"


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_said_of_the_accuracy_of_networks_that_know_nothing(seed: int) -> None:
    """In some order of the classes, or at some scale of the pixels, one of them is better than chance."""
    torch.manual_seed(seed)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images = dataset(DataSpec("digits", None, 250), None).test
    found = preflight(wide.eval(), images.x, images.y, 10)
    assert (found["range"], found["labels"]) == (PASSED, PASSED)


def naming(right: int, y: Tensor, classes: int) -> Finding:
    """What is found where the first so many images are right and no other one is."""
    answers = torch.where(torch.arange(len(y)) < right, y, (y + 1) % classes)
    net = around(lambda _, x: nn.functional.one_hot(answers, classes).float())()
    return better_than_chance(Subject(net, torch.zeros(len(y), 1, 6, 6), y, classes))


def test_what_is_not_clearly_better_than_chance_is_told() -> None:
    """250 images of 10 classes as many: 41 right have a probability of 0.0011 by chance, 42 one of 0.0006."""
    y = torch.arange(250) % 10
    assert [naming(right, y, 10).code for right in (0, 25, 41)] == ["not-above-chance"] * 3
    assert naming(42, y, 10) == PASSED
    assert naming(250, y, 10) == PASSED


def test_chance_is_the_most_frequent_class() -> None:
    y = (torch.arange(250) >= 200).long()
    assert naming(200, y, 2).code == "not-above-chance"
    assert naming(225, y, 2) == PASSED


def test_nothing_is_said_of_chance_where_no_model_could_be_above_it() -> None:
    assert naming(0, torch.arange(5), 10) != PASSED
    assert naming(0, torch.arange(4), 10) == PASSED
    assert naming(0, torch.zeros(250).long(), 10) == PASSED


def test_a_network_with_random_weights_is_told() -> None:
    images = dataset(DataSpec("digits", None, 250), None).test
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    found = preflight(net, images.x, images.y, 10)["chance"]
    assert (found.level, found.code) == ("WARN", "not-above-chance")
    assert "order of the classes" in found.remedy


def test_later_checks_are_left_out_where_they_mean_nothing() -> None:
    assert list(preflight(poisoned(torch.nan)(), X, Y, CLASSES)) == ["finite"]
    wide = nn.Sequential(small(), nn.Linear(CLASSES, CLASSES + 1))
    assert list(preflight(wide, X, Y, CLASSES)) == ["finite", "classes"]
    noisy = preflight(WRONG["noise that eval mode leaves"][0](), X, Y, CLASSES)
    assert "deterministic" in noisy
    assert noisy.keys().isdisjoint(
        {"independent", "agreement", "consistent", "range", "labels", "chance"}
    )


def test_every_finding_has_a_level_and_a_remedy() -> None:
    for level, remedy in REMEDIES.values():
        assert level in LEVELS[1:]
        assert len(remedy) > 20


@pytest.mark.parametrize("name", WRONG)
def test_nothing_is_changed_by_looking(name: str) -> None:
    """Not by a model that draws, that moves statistics, or that overwrites its images either."""
    model = WRONG[name][0]()
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    x, generator, trace = X.clone(), torch.get_rng_state(), sys.gettrace()
    preflight(model, x, Y, CLASSES)
    assert torch.equal(x, X)
    assert torch.equal(torch.get_rng_state(), generator)
    assert sys.gettrace() is trace, "a debugger or coverage would go blind"
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_a_dynamic_model_throws_no_suspicion_on_the_next_one() -> None:
    """The reference library counts calls in the module for good: after one such model, it flags all (its F6)."""
    assert preflight(around(ascended)(), X, Y, CLASSES)["passes"].code == "inner-loop"
    assert preflight(small(), X, Y, CLASSES)["passes"] == PASSED


def test_one_image_is_enough_for_an_answer() -> None:
    found = preflight(small(), X[:1], Y[:1], CLASSES)
    assert {finding.level for finding in found.values()} == {"PASS"}
