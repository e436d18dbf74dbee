"""Robustness metrics: against loops over images, and against AutoAttack's own verdicts."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.grading import grade
from metrics.case import Case, NotApplicable
from metrics.randomness import Draws
from metrics.robustness.auto_attack import auto_attack
from metrics.robustness.clean_accuracy import clean_accuracy
from metrics.robustness.fgsm import fgsm
from metrics.robustness.pgd import pgd
from metrics.threat import L2, Linf, ThreatModel

THREATS = [Linf(0.05), L2(0.25)]
every_threat = pytest.mark.parametrize("threat", THREATS, ids=str)


def unused(*args: object) -> Tensor:
    raise AssertionError("a robustness metric retrains nothing and knows no manifold")


def case(threat: ThreatModel | None = None, *, classes: int = 5, n: int = 40) -> Case:
    """A small smooth classifier, and labels that it mostly gets right by a small margin."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(150, classes)
    )
    draws = Draws(7, torch.arange(n))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            normal = Draws(i, torch.arange(1)).normal(*parameter.shape)[0]
            parameter.copy_(normal / max(1, parameter[0].numel()) ** 0.5)
        x = draws.fork("x").uniform(1, 5, 5)
        model[3].bias -= model(x).mean(0)
        y = model(x).argmax(1)
        y[::8] = (y[::8] + 1) % classes
    model.eval().requires_grad_(False)
    return Case(
        model=model, x=x, y=y, draws=draws, train_x=x, train_draws=draws, threat=threat,
        classes=classes, refit=unused, manifold=unused,
        grade=partial(grade, model, x, y, threat) if threat else unused,
    )  # fmt: skip


def right(model: nn.Module, image: Tensor, label: int) -> bool:
    logits = model(image[None])[0].tolist()
    return max(range(len(logits)), key=logits.__getitem__) == label


def loss_gradient(model: nn.Module, image: Tensor, label: int, loss: str) -> Tensor:
    image = image.detach().clone().requires_grad_()
    logits = model(image[None])
    if loss == "xent":
        F.cross_entropy(logits, torch.tensor([label])).backward()
    else:
        others = [k for k in range(logits.shape[1]) if k != label]
        (logits[0, others].max() - logits[0, label]).backward()
    assert image.grad is not None
    return image.grad


def ascend(threat: ThreatModel, g: Tensor, size: float) -> Tensor:
    return size * (g.sign() if isinstance(threat, Linf) else g / g.norm())


def allowed(threat: ThreatModel, image: Tensor, moved: Tensor) -> Tensor:
    delta = moved - image
    if isinstance(threat, Linf):
        delta = delta.clip(-threat.eps, threat.eps)
    elif delta.norm() > threat.eps:
        delta = delta * threat.eps / delta.norm()
    return (image + delta).clip(0, 1)


def test_clean_accuracy_literally() -> None:
    c = case()
    got = clean_accuracy(c)["accuracy"].tolist()
    assert got == [float(right(c.model, *one)) for one in zip(c.x, c.y.tolist(), strict=True)]
    assert sum(got) == 35


@every_threat
def test_fgsm_literally(threat: ThreatModel) -> None:
    c, expected = case(threat), []
    for image, label in zip(c.x, c.y.tolist(), strict=True):
        g = loss_gradient(c.model, image, label, "xent")
        moved = allowed(threat, image, image + ascend(threat, g, threat.eps))
        expected.append(float(right(c.model, image, label) and right(c.model, moved, label)))
    got = fgsm(c)
    assert got["robust_accuracy"].tolist() == expected
    assert 0 < sum(expected) < 35  # some images hold, some break
    assert (got["invalid"] == 0).all()
    assert (got["perturbation"] <= threat.eps * (1 + 1e-5)).all()


@every_threat
@pytest.mark.parametrize(("loss", "restarts"), [("xent", 1), ("margin", 2)])
def test_pgd_literally(threat: ThreatModel, loss: str, restarts: int) -> None:
    c, expected = case(threat), []
    starts = [
        threat.noise(c.x, c.draws.fork("pgd").fork("restart", restart))
        for restart in range(restarts)
    ]
    for n, (image, label) in enumerate(zip(c.x, c.y.tolist(), strict=True)):
        holds = right(c.model, image, label)
        for start in starts:
            moved = allowed(threat, image, image + start[n])
            for _ in range(6):
                g = loss_gradient(c.model, moved, label, loss)
                moved = allowed(threat, image, moved + ascend(threat, g, 2.5 * threat.eps / 6))
            holds = holds and right(c.model, moved, label)
        expected.append(float(holds))
    got = pgd(c, steps=6, restarts=restarts, loss=loss)
    assert got["robust_accuracy"].tolist() == expected
    assert 0 < sum(expected) < 35
    assert (got["invalid"] == 0).all()


@every_threat
def test_stronger_attacks_break_more(threat: ThreatModel) -> None:
    c = case(threat)
    clean = clean_accuracy(c)["accuracy"]
    once, often = (pgd(c, steps=10, restarts=r)["robust_accuracy"] for r in (1, 5))
    assert (often <= once).all()
    assert often.mean() <= fgsm(c)["robust_accuracy"].mean() < clean.mean()
    assert pgd(case(threat.scaled(20)), steps=20)["robust_accuracy"].sum() == 0
    nothing = pgd(case(threat.scaled(0)), steps=3)
    assert torch.equal(nothing["robust_accuracy"], clean)
    assert (nothing["perturbation"] == 0).all()


def test_the_step_size_is_honoured() -> None:
    c = case(Linf(0.05))
    got = pgd(c, steps=1, step_size=1e-9)
    start = Linf(0.05).project(
        c.x,
        Linf(0.05).noise(
            c.x,
            c.draws.fork(
                "pgd",
            ).fork("restart", 0),
        ),
    )
    torch.testing.assert_close(got["perturbation"], Linf(0.05).size(start), rtol=0, atol=1e-6)


def test_pgd_is_repeatable_and_keyed_by_the_cases_draws() -> None:
    c = case(Linf(0.05))
    other = replace(c, draws=Draws(8, c.draws.ids))
    one, two, three = (pgd(d, steps=1, step_size=1e-9)["perturbation"] for d in (c, c, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


# ---- AutoAttack ----


def verdicts(c: Case, version: str, queries: int) -> Tensor:
    """AutoAttack called as its README says; the attacks it cannot run with few classes left out by hand."""
    assert c.threat
    attacks = {2: ["apgd-ce", "fab", "square"], 3: ["apgd-ce", "fab-t", "square"]}.get(c.classes)
    adversary = AutoAttack(
        c.model, norm=c.threat.norm, eps=c.threat.eps, seed=7,
        version="custom" if attacks else version, attacks=attacks,
    )  # fmt: skip
    adversary.square.n_queries = queries
    adversary.apgd_targeted.n_target_classes = min(9, c.classes - 1)
    adversary.fab.n_target_classes = min(9, c.classes - 1)
    if attacks:  # as in the standard version
        adversary.apgd.n_restarts = adversary.fab.n_restarts = 1
    with torch.random.fork_rng():
        adversarial = adversary.run_standard_evaluation(c.x, c.y, batch_size=len(c.x))[0]
    return ((c.model(adversarial).argmax(1) == c.y) & (c.model(c.x).argmax(1) == c.y)).float()


@pytest.mark.parametrize(
    ("classes", "threat", "version"),
    [
        (2, Linf(0.05), "standard"), (3, Linf(0.05), "standard"), (4, Linf(0.03), "standard"),
        (10, Linf(0.02), "standard"), (2, L2(0.25), "standard"), (5, L2(0.15), "standard"),
        (4, Linf(0.03), "plus"), (4, Linf(0.03), "rand"),
    ],
)  # fmt: skip
def test_the_verdicts_are_autoattacks(classes: int, threat: ThreatModel, version: str) -> None:
    c = case(threat, classes=classes, n=12)
    got = auto_attack(c, version=version, queries=30)
    expected = verdicts(c, version, 30)
    assert torch.equal(got["robust_accuracy"], expected)
    assert 0 < expected.sum() < 10
    assert (got["invalid"] == 0).all()
    assert (got["perturbation"] <= threat.eps * (1 + 1e-5) + 1e-6).all()


def test_autoattack_is_at_least_as_strong_as_pgd() -> None:
    c = case(Linf(0.03), n=24)
    auto = auto_attack(c, queries=30)["robust_accuracy"]
    assert auto.sum() <= pgd(c, steps=20, restarts=2)["robust_accuracy"].sum()


def test_the_number_of_queries_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def remember(self: AutoAttack, x: Tensor, y: Tensor, **_: object) -> tuple[Tensor, Tensor]:
        seen.append((self.square.n_queries, self.seed, self.epsilon, self.norm))
        return x, y

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", remember)
    auto_attack(case(L2(0.25)), queries=123)
    auto_attack(case(Linf(0.05)))
    assert seen == [(123, 7, 0.25, "L2"), (5000, 7, 0.05, "Linf")]


@pytest.mark.parametrize(
    ("classes", "ensemble", "targets"),
    [
        (2, ["apgd-ce", "fab", "square"], 1),
        (3, ["apgd-ce", "fab-t", "square"], 2),
        (4, ["apgd-ce", "apgd-t", "fab-t", "square"], 3),
        (10, ["apgd-ce", "apgd-t", "fab-t", "square"], 9),
        (12, ["apgd-ce", "apgd-t", "fab-t", "square"], 9),
    ],
)
def test_the_ensemble_is_the_published_one_as_far_as_the_classes_reach(
    classes: int, ensemble: list[str], targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def remember(self: AutoAttack, x: Tensor, y: Tensor, **_: object) -> tuple[Tensor, Tensor]:
        seen.append(self)
        return x, y

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", remember)
    auto_attack(case(Linf(0.05), classes=classes))
    (got,) = seen
    assert got.attacks_to_run == ensemble
    assert got.fab.n_target_classes == targets
    assert got.apgd_targeted.n_target_classes == targets
    parts = (got.apgd, got.apgd_targeted, got.fab, got.square)
    assert [part.n_restarts for part in parts] == [1, 1, 1, 1]
    assert [part.n_iter for part in parts[:3]] == [100, 100, 100]


def test_autoattack_leaves_generator_and_trace_function_as_found() -> None:
    calls: list[str] = []

    def trace(frame: object, event: str, argument: object) -> None:
        calls.append(event)

    c = case(Linf(0.03), n=3)
    torch.manual_seed(5)
    state, old = torch.get_rng_state(), sys.gettrace()
    sys.settrace(trace)
    try:
        auto_attack(c, queries=5)
        kept = sys.gettrace()
    finally:
        sys.settrace(old)
    assert kept is trace
    assert torch.equal(torch.get_rng_state(), state)


def test_the_trace_function_survives_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: AutoAttack, *_: object, **__: object) -> None:
        sys.settrace(None)
        torch.rand(3)
        raise RuntimeError("crashed")

    def trace(frame: object, event: str, argument: object) -> None: ...

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", crash)
    c = case(Linf(0.03), n=3)
    state, old = torch.get_rng_state(), sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(RuntimeError, match="crashed"):
            auto_attack(c)
        kept = sys.gettrace()
    finally:
        sys.settrace(old)
    assert kept is trace
    assert torch.equal(torch.get_rng_state(), state)


# ---- what does not apply ----


@pytest.mark.parametrize("metric", [fgsm, pgd, auto_attack])
def test_attacks_need_a_threat(metric: type) -> None:
    with pytest.raises(NotApplicable, match="needs a threat model, as in threat = 'Linf 8/255'"):
        metric(case())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("version", ["plus", "rand"])
def test_other_ensembles_need_four_classes(classes: int, version: str) -> None:
    with pytest.raises(
        NotApplicable, match=f"{version!r} needs at least 4 classes.* has {classes}"
    ):
        auto_attack(case(Linf(0.03), classes=classes), version=version)
