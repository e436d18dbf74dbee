"""Robustness metrics: against loops over images, and against AutoAttack's own verdicts."""

from __future__ import annotations

import copy
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
from metrics.threat import L1, L2, Linf, ThreatModel

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
        classes=classes, refit=unused, manifold=unused, surrogate=unused,
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


def test_the_loss_of_carlini_and_wagner_is_the_margin() -> None:
    one, other = (pgd(case(Linf(0.1)), steps=3, loss=loss) for loss in ("cw", "margin"))
    assert all(torch.equal(values, other[name]) for name, values in one.items())


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


@pytest.mark.parametrize("threat", [*THREATS, L1(1.0)], ids=str)
def test_the_step_size_is_honoured(threat: ThreatModel) -> None:
    c = case(threat)
    got = pgd(c, steps=1, step_size=1e-9)["perturbation"]
    start = threat.project(c.x, threat.noise(c.x, c.draws.fork("pgd").fork("restart", 0)))
    held = clean_accuracy(c)["accuracy"].bool()
    torch.testing.assert_close(got[held], threat.size(start)[held], rtol=0, atol=1e-6)
    assert (got[~held] == 0).all()  # nothing to attack


def test_pgd_is_repeatable_and_keyed_by_the_cases_draws() -> None:
    c = case(Linf(0.05))
    other = replace(c, draws=Draws(8, c.draws.ids))
    one, two, three = (pgd(d, steps=1, step_size=1e-9)["perturbation"] for d in (c, c, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


# ---- AutoAttack ----


ALL = ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
FEW = {  # what the library can run with few classes
    ("standard", 2): ["apgd-ce", "fab-t", "square"],
    ("standard", 3): ["apgd-ce", "fab-t", "square"],
    ("plus", 2): ["apgd-ce", "fab", "square", "fab-t"],
    ("plus", 3): ["apgd-ce", "apgd-dlr", "fab", "square", "fab-t"],
    ("rand", 2): ["apgd-ce"],
}


def verdicts(c: Case, version: str, queries: int) -> Tensor:
    """AutoAttack called as its README says; the attacks it cannot run with few classes left out by hand."""
    assert c.threat
    adversary = AutoAttack(c.model, norm=c.threat.norm, eps=c.threat.eps, seed=7, version=version)
    adversary.attacks_to_run = FEW.get((version, c.classes), adversary.attacks_to_run)
    adversary.square.n_queries = queries
    adversary.apgd_targeted.n_target_classes = min(9, c.classes - 1)
    adversary.fab.n_target_classes = min(9, c.classes - 1)
    with torch.random.fork_rng():
        adversarial = adversary.run_standard_evaluation(c.x, c.y)[0].clamp(0, 1)
    return ((c.model(adversarial).argmax(1) == c.y) & (c.model(c.x).argmax(1) == c.y)).float()


@pytest.mark.parametrize(
    ("classes", "threat", "version"),
    [
        (2, Linf(0.05), "standard"), (3, Linf(0.05), "standard"), (4, Linf(0.03), "standard"),
        (10, Linf(0.02), "standard"), (2, L2(0.25), "standard"), (5, L2(0.15), "standard"),
        (5, L1(0.5), "standard"), (4, Linf(0.03), "plus"), (4, Linf(0.03), "rand"),
        (2, Linf(0.05), "rand"), (3, Linf(0.05), "plus"),
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
    first = torch.stack([got[f"broken_by_{name.replace('-', '_')}"] for name in ALL])
    # every image that was right and does not hold was broken first by exactly one attack
    held = clean_accuracy(c)["accuracy"]
    assert torch.equal(first.sum(0), held - expected)
    assert first[0].sum() > 0
    ran = FEW.get((version, classes), adversary_of(c, version).attacks_to_run)
    assert all(first[i].sum() == 0 for i, name in enumerate(ALL) if name not in ran)


def adversary_of(c: Case, version: str) -> AutoAttack:
    assert c.threat
    return AutoAttack(c.model, norm=c.threat.norm, eps=c.threat.eps, version=version)


def test_autoattack_goes_on_with_what_stands_in_batches_of_250(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The batches are the library's own for all images, so its random numbers fall on the same ones."""
    seen = []

    def break_the_odd(
        self: AutoAttack, x: Tensor, y: Tensor, /, *, batch_size: int
    ) -> tuple[Tensor, Tensor]:
        seen.append((*self.attacks_to_run, len(x), batch_size))
        labels = y.clone()
        labels[1::2] = (y[1::2] + 1) % 5
        return x, labels

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", break_the_odd)
    got = auto_attack(case(Linf(0.05), n=40))
    assert seen == [
        ("apgd-ce", 35, 35),
        ("apgd-t", 18, 18),
        ("fab-t", 9, 9),
        ("square", 5, 5),
    ]
    counts = [
        int(got[f"broken_by_{name}"].sum()) for name in ("apgd_ce", "apgd_t", "fab_t", "square")
    ]
    assert counts == [17, 9, 4, 2]
    # what the library believes of its work is not what the harness finds
    assert got["robust_accuracy"].sum() == 35


@pytest.mark.parametrize("threat", [L2(0.2), L1(1.0)], ids=str)
def test_autoattack_leaves_square_out_on_images_too_small_for_it(threat: ThreatModel) -> None:
    c = case(threat, n=12)
    small = torch.nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).requires_grad_(False)
    with torch.no_grad():
        small[1].weight.copy_(Draws(1, torch.arange(5)).normal(16))
        small[1].bias.zero_()
    x = c.x[:, :, :4, :4].contiguous()
    y = small(x).argmax(1)
    got = auto_attack(
        replace(c, model=small, x=x, y=y, grade=partial(grade, small, x, y, threat)), queries=5
    )
    assert 0 < got["robust_accuracy"].sum() < 12
    assert (got["broken_by_square"] == 0).all()


def test_autoattack_is_at_least_as_strong_as_pgd() -> None:
    c = case(Linf(0.03), n=24)
    auto = auto_attack(c, queries=30)["robust_accuracy"]
    assert auto.sum() <= pgd(c, steps=20, restarts=2)["robust_accuracy"].sum()


def asked(monkeypatch: pytest.MonkeyPatch, c: Case, **settings: object) -> list[AutoAttack]:
    """The library's objects, one for each attack, as they are when they are asked; they break nothing."""
    seen = []

    def remember(self: AutoAttack, x: Tensor, y: Tensor, **_: object) -> tuple[Tensor, Tensor]:
        seen.append(copy.deepcopy(self))
        return x, y

    monkeypatch.setattr(AutoAttack, "run_standard_evaluation", remember)
    auto_attack(c, **settings)
    return seen


def test_the_number_of_queries_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    one = asked(monkeypatch, case(L2(0.25)), queries=123)[-1]
    other = asked(monkeypatch, case(Linf(0.05)))[-1]
    got = [(a.square.n_queries, a.seed, a.epsilon, a.norm) for a in (one, other)]
    assert got == [(123, 7, 0.25, "L2"), (5000, 7, 0.05, "Linf")]


@pytest.mark.parametrize(
    ("classes", "threat", "ensemble", "targets"),
    [
        (2, Linf(0.05), FEW["standard", 2], 1),
        (3, Linf(0.05), FEW["standard", 3], 2),
        (4, Linf(0.05), ["apgd-ce", "apgd-t", "fab-t", "square"], 3),
        (10, Linf(0.05), ["apgd-ce", "apgd-t", "fab-t", "square"], 9),
        (12, L2(0.05), ["apgd-ce", "apgd-t", "fab-t", "square"], 9),
        (12, L1(0.05), ["apgd-ce", "apgd-t", "fab-t", "square"], 5),
    ],
)
def test_the_ensemble_is_the_published_one_as_far_as_the_classes_reach(
    classes: int, threat: ThreatModel, ensemble: list[str], targets: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    got = asked(monkeypatch, case(threat, classes=classes))
    assert [name for a in got for name in a.attacks_to_run] == ensemble
    for a in got:
        assert a.fab.n_target_classes == min(9, classes - 1)
        assert a.apgd_targeted.n_target_classes == targets
        parts = (a.apgd, a.apgd_targeted, a.fab, a.square)
        assert [part.n_restarts for part in parts] == [5 if threat.norm == "L1" else 1, 1, 1, 1]
        assert [part.n_iter for part in parts[:3]] == [100, 100, 100]


@pytest.mark.parametrize(("version", "classes"), [*FEW, ("rand", 3), ("plus", 4), ("plus", 10)])
def test_every_version_runs_for_any_class_count(
    version: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = ["apgd-ce", "apgd-dlr"] if version == "rand" else ALL
    got = asked(monkeypatch, case(Linf(0.05), classes=classes), version=version)
    assert [a.attacks_to_run[0] for a in got] == FEW.get((version, classes), published)


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
