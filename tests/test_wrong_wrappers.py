"""Twelve models that are evaluated wrongly, each as users have done it, and what tells each of them.

And the other side: nothing is said of honest networks, trained here or published.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.cards import card
from benchmark.datasets.base import Dataset
from benchmark.datasets.load import load as load_data
from benchmark.gradient_masking import Finding, Share, Verdict, verdict
from benchmark.grading import grade
from benchmark.measuring.networks import untrained
from benchmark.measuring.place import dataset
from benchmark.models.checkpoint import load
from benchmark.models.spec import parse
from benchmark.plan import DataSpec
from benchmark.preflight import preflight
from metrics.case import Case, NotApplicable
from metrics.randomness import Draws
from metrics.robustness.masking import masking
from metrics.threat import ThreatModel
from metrics.threat import parse as threat
from trainers.base import Images
from trainers.recipe import Recipe

PEERS = runpy.run_path(str(Path(__file__).parent / "peers" / "checkpoints.py"))
PUBLISHED = PEERS["CHECKPOINTS"]
LINF = threat("Linf 0.1")


class Wrapper(nn.Module):
    """A network inside something that is wrong."""

    def __init__(self, network: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.wrong = network, forward
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.wrong(self.network, x)


def normalised(net: nn.Module, x: Tensor) -> Tensor:
    """By the statistics of CIFAR-10's or of the digits' pixels, although the network does so itself."""
    mean, std = (0.473, 0.251) if x.shape[1] == 3 else (0.305, 0.376)
    return net((x - mean) / std)


def sharpened(net: nn.Module, x: Tensor) -> Tensor:
    """Three steps of its own towards a surer answer, then the logits of the image it came to."""
    moved = x
    with torch.enable_grad():
        for _ in range(3):
            moved = moved.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(net(moved).logsumexp(1).sum(), moved)
            moved = moved + 0.01 * gradient.sign()
    return net(x + (moved - x).detach())


TWELVE: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], str]] = {
    "double normalisation": (normalised, "normalised-twice"),
    "train mode": (lambda net, x: net(x), "train-mode"),
    "softmax": (lambda net, x: net(x).softmax(1), "probabilities"),
    "log-softmax": (lambda net, x: net(x).log_softmax(1), "log-probabilities"),
    "logits x 1e4": (lambda net, x: 1e4 * net(x), "saturated"),
    "0..255 input": (lambda net, x: net(x / 255), "expects-0-255"),
    "dropout on": (lambda net, x: net(nn.functional.dropout(x, 0.2)), "random"),
    "detached gradient": (lambda net, x: net(x.detach()), "detached"),
    "thresholded input": (lambda net, x: net((x > 0.5).float()), "detached"),
    "float16": (lambda net, x: net(x).half(), "half-precision"),
    "permuted labels": (lambda net, x: net(x).roll(1, 1), "permuted-labels"),
    "inner loop": (sharpened, "inner-loop"),
}
# more of the same kinds
OTHERS = {
    "normalised by 0.5": (lambda net, x: net(2 * x - 1), "normalised-twice"),
    "fed with 0..255": (lambda net, x: net(255 * x), "scaled-by-255"),
    "two classes exchanged": (lambda net, x: net(x)[:, [0, 1, 2, 9, 4, 5, 6, 7, 8, 3]], "permuted-labels"),
    "black for white": (lambda net, x: net(1 - x), "inverted"),
}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return dataset(DataSpec("digits", None, None), None)


@pytest.fixture(scope="module")
def networks(digits: Dataset) -> dict[str, nn.Module]:
    """Trained as a run would, honestly."""
    small = {"epochs": 8, "lr": 5e-3, "keep": "last"}
    return {
        "standard": trained(digits, "standard", None, Recipe("digits_cnn", **small)),
        "pgd_at": trained(digits, "pgd_at", LINF, Recipe("digits_cnn", **small)),
        "standard mlp": trained(digits, "standard", None, Recipe("mlp", **small)),
        "standard with BatchNorm": trained(
            digits, "standard", None, Recipe("resnet20", **{**small, "epochs": 3})
        ),
    }


def trained(data: Dataset, name: str, against: ThreatModel | None, recipe: Recipe) -> nn.Module:
    splits = (Images(split.x, split.y, split.ids) for split in (data.train, data.validation))
    done = card("trainers", name).load()(
        untrained(data, "digits", recipe, 0),
        *splits,
        recipe=recipe,
        threat=against,
        seed=0,
    )
    return done.model.eval().requires_grad_(False)


def wrong(model: nn.Module, data: Dataset, images: int = 250) -> list[Finding]:
    """What preflight says, as a run calls it."""
    test = data.test[:images]
    found = preflight(model, test.x, test.y, len(data.classes))
    return [finding for finding in found.values() if finding.level != "PASS"]


def judged(
    model: nn.Module, data: Dataset, under: ThreatModel, *, images: int = 100, queries: int = 300
) -> Verdict:
    """The masking verdict, without another model."""
    test = data.test[:images]

    def alone(*_: object) -> nn.Module:
        raise NotApplicable("no other model")

    case = Case(
        model=model, x=test.x, y=test.y, draws=Draws(0, test.ids), train_x=test.x,
        train_draws=Draws(0, test.ids), threat=under, classes=len(data.classes),
        grade=partial(grade, model, test.x, test.y, under), refit=alone, manifold=alone, surrogate=alone,
    )  # fmt: skip
    scores = masking(case, queries=queries).items()
    seen = {name: score[~score.isnan()] for name, score in scores}
    return verdict({n: Share(float(score.mean()), len(score)) for n, score in seen.items()})


@pytest.mark.parametrize("network", ["standard", "pgd_at"])
@pytest.mark.parametrize("name", [*TWELVE, *OTHERS])
def test_a_wrong_wrapper_is_told_by_its_code(digits, networks, name, network) -> None:
    forward, code = (TWELVE | OTHERS)[name]
    model = Wrapper(networks[network], forward)
    if name == "train mode":
        model = Wrapper(nn.Sequential(nn.Dropout(0.2), networks[network]), forward).train()
    codes = [finding.code for finding in wrong(model, digits)]
    # pixels of 255 make large logits as well
    assert set(codes) - {"saturated"} == {code} - {"saturated"}
    assert code in codes


def test_there_are_twelve() -> None:
    assert len(TWELVE) == 12


HIDDEN = {
    "detached": (TWELVE["detached gradient"][0], "zero-gradient"),
    "thresholded": (TWELVE["thresholded input"][0], "zero-gradient"),
    "too sure": (TWELVE["logits x 1e4"][0], "margin-stronger"),
    "rippled": (lambda net, x: net(x + 0.02 * (400 * x).sin()), "steps-weaken"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_the_verdict_tells_what_hides_the_gradient(digits, networks, name) -> None:
    forward, code = HIDDEN[name]
    found = judged(Wrapper(networks["standard"], forward), digits, LINF)
    codes = {reason.code for reason in found.reasons}
    if name == "too sure":
        assert (found.level, codes) == ("WARN", {"margin-stronger", "saturated"})
    else:
        assert found.level == "FAIL"
        assert codes >= {"black-box-stronger", "large-eps-holds", code}


@pytest.mark.parametrize("name", ["standard", "pgd_at", "standard mlp", "standard with BatchNorm"])
def test_an_honest_network_of_ours_passes(digits, networks, name) -> None:
    assert wrong(networks[name], digits) == []


@pytest.mark.parametrize("name", ["standard", "pgd_at", "standard mlp"])
def test_the_verdict_on_an_honest_network_of_ours_is_clean(digits, networks, name) -> None:
    assert judged(networks[name], digits, LINF) == Verdict("PASS", ())


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Callable[[str], Dataset]:
    known = {name: load_data(name, shared_data / "datasets") for name in ("mnist", "cifar10")}
    return known.__getitem__


def published(shared_data: Path, file: str, real: Callable[[str], Dataset]) -> Iterator:
    """(model, data set) of the checkpoints whose file ends so."""
    for stated in PUBLISHED:
        if stated.file.endswith(file):
            data = real(stated.dataset)
            spec = parse(f"file:{shared_data / 'checkpoints' / stated.file}@{stated.network}")
            channels, size, _ = data.shape
            loaded = load(spec, channels=channels, classes=len(data.classes), size=size)
            yield loaded.model.eval().requires_grad_(False), data


@pytest.mark.parametrize("file", [stated.file for stated in PUBLISHED])
def test_a_published_network_passes(shared_data, real, file) -> None:
    ((model, data),) = published(shared_data, file, real)
    # the two deep ones take as long as all others together
    assert wrong(model, data, 100 if "akamaster" in file else 250) == []


def test_the_table_of_published_networks_says_what_its_rows_show() -> None:
    said = PEERS["_reading"]([1.3, -0.1, 0.2], [-0.5, -0.2, 0.0])
    assert "lower a figure by up to 1.8 points" in said
    assert "(1 start each) ours leaves up to 1.3 points more" in said
    assert "3 starts beside the stated 1 only, where it leaves at most 0.0 points more" in said


@pytest.mark.parametrize("file", ["resnet2b.pth", "cifar_torchvision.pt"])
@pytest.mark.parametrize("name", ["double normalisation", "0..255 input", "permuted labels"])
def test_what_shows_in_the_accuracy_of_a_published_network(shared_data, real, file, name) -> None:
    forward, code = TWELVE[name]
    ((model, data),) = published(shared_data, file, real)
    found = wrong(Wrapper(model, forward), data)
    assert [(finding.level, finding.code) for finding in found] == [("FAIL", code)]


@pytest.mark.parametrize(
    ("file", "under"), [("cifar_base.pth", "Linf 2/255"), ("mnist_conv_small_nat.pth", "Linf 0.1")]
)
def test_the_verdict_on_a_published_network_is_clean(shared_data, real, file, under) -> None:
    ((model, data),) = published(shared_data, file, real)
    assert judged(model, data, threat(under), images=64) == Verdict("PASS", ())
