"""`bench verify`: what was saved is judged again, and everything that is not as recorded is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark import suite
from benchmark.measuring import verify
from benchmark.measuring.examples import KIND
from benchmark.measuring.networks import untrained
from benchmark.measuring.place import Place, dataset
from benchmark.measuring.verify import Checked, outcome
from benchmark.plan import DataSpec, Part
from benchmark.planner import plan
from benchmark.running.agenda import _attacks
from benchmark.running.run import run
from benchmark.storage import ledger
from benchmark.store import Store, StoreError
from trainers.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
IMAGES, KEPT = 30, 20
SUITE = f"""
name = "tiny"
dataset = "digits"
limit = {IMAGES}
train_limit = 300
adversarials = {KEPT}
gallery.images = 0
[recipe]
epochs = 3
lr = 5e-3
[[trainer]]
name = "standard"
[[metric]]
name = "clean_accuracy"
[[metric]]
name = "fgsm"
[[metric]]
name = "pgd"
steps = 3
threat = "L2 0.5"
[[metric]]
name = "transfer"
"""
CELLS = 2 * 3  # two models, three attacks; the source does not attack itself
EXAMPLES = 5 * KEPT


def execute(made: Any, folder: Path) -> Any:
    return run(
        made, Place(folder, None, "cpu"), 1, begin=lambda jobs: lambda outcome: None, words=""
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run of one own and one third-party model."""
    place = tmp_path_factory.mktemp("made")
    data = dataset(DataSpec("digits", 9, 9), None)
    weights = untrained(data, "digits", Recipe("mlp"), 0).state_dict()
    file = place / "theirs.safetensors"
    save_file({k.removeprefix("net."): v for k, v in weights.items() if "net." in k}, file)
    (place / "tiny.toml").write_text(SUITE)
    base = suite.read(str(place / "tiny.toml"))
    found = plan(suite.changed(base, models=[f"file:{file}@mlp"]))
    assert execute(found, place / "run").failed == ()
    return found, place


@pytest.fixture
def folder(made: tuple[Any, Path], tmp_path: Path) -> Path:
    """A copy of the run at another place."""
    return Path(shutil.copytree(made[1] / "run", tmp_path / "moved"))


def verified(folder: Path) -> list[Checked]:
    entries, without = verify.examples(folder)
    assert without == 0
    return list(verify.verify(folder, entries, None, "cpu"))


def key(folder: Path, metric: str, trainer: str = "standard") -> str:
    book = ledger.read(folder)
    assert book is not None
    return next(e.key for e in book.entries if (e.metric, e.trainer) == (metric, trainer))


def test_a_run_that_was_moved_agrees_with_itself(folder: Path) -> None:
    found = verified(folder)
    assert len(found) == CELLS
    assert [one.remarks for one in found] == [[]] * CELLS
    assert sum(one.examples for one in found) == EXAMPLES
    assert outcome(found, 0) == (
        f"{EXAMPLES} examples of {CELLS} cells judged again, 0 disagreements.",
        0,
    )


def test_what_is_kept_is_the_first_images_in_float32_and_no_record(folder: Path) -> None:
    store = Store(folder)
    tensors, info = store.load(KIND, key(folder, "pgd"))
    saved = tensors["0/adversarial"]
    assert (saved.dtype, len(saved), info["sets"]) == (torch.float32, KEPT, 1)
    test = dataset(DataSpec("digits", 300, IMAGES), None).test
    scores, _ = store.load("cells", key(folder, "pgd"))
    torch.testing.assert_close(
        (saved - test.x[:KEPT]).flatten(1).norm(dim=1), scores["perturbation"][:KEPT]
    )
    rows = pd.read_csv(folder / "records.csv").query("metric == 'pgd'")
    assert set(rows["measure"]) == {"robust_accuracy", "perturbation", "invalid", "margin"}
    assert (rows["n"] == IMAGES).all()


def test_other_batches_than_in_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark import grading

    sizes: set[int] = set()
    real = grading.in_equal_batches

    def spy(function: Any, *tensors: Tensor, size: int) -> Tensor:
        sizes.add(size)
        return real(function, *tensors, size=size)

    monkeypatch.setattr(grading, "in_equal_batches", spy)
    verified(folder)
    assert sizes == {KEPT // 3}
    assert all(verify._batch(n) != grading.BATCH for n in range(1, 2000))


def change(folder: Path, name: str, edit: Any, kind: str = KIND) -> None:
    """Rewrite a result with a digest that fits."""
    store = Store(folder)
    tensors, info = store.load(kind, name)
    edit(tensors)
    store.save(kind, name, tensors, info)


def broken(folder: Path) -> int:
    """An image that FGSM broke (of the first ones)."""
    tensors, _ = Store(folder).load(KIND, key(folder, "fgsm"))
    return int((tensors["0/clean"] & tensors["0/fooled"]).nonzero()[0])


def test_tampered_examples_are_named_one_by_one(folder: Path) -> None:
    x = dataset(DataSpec("digits", 300, IMAGES), None).test
    i = broken(folder)
    others = [n for n in range(KEPT) if n != i][:2]

    def edit(tensors: dict[str, Tensor]) -> None:
        adversarial = tensors["0/adversarial"]
        adversarial[i] = x.x[i]
        adversarial[others[0], 0, 3, 3] += 0.3 if x.x[others[0], 0, 3, 3] < 0.5 else -0.3
        adversarial[others[1], 0, 0, 0] = -0.01

    change(folder, key(folder, "fgsm"), edit)
    found = {one.title: one for one in verified(folder)}
    said = found["FGSM Linf 0.1 of standard, seed 0"].disagreements
    assert f"image {x.ids[i]}: its label does not change, recorded as its label changes" in said
    outside = [line for line in said if "outside the ball (norm 0." in line]
    assert [line.partition(":")[0] for line in outside] == [f"image {x.ids[others[0]]}"]
    assert any("outside [0, 1], recorded as inside [0, 1]" in line for line in said)
    assert all(
        not one.remarks
        for title, one in found.items()
        if not title.startswith("FGSM") or "mlp" in title
    )
    summary, status = outcome(list(found.values()), 0)
    assert status == 1
    assert f"{len(said)} disagreements" in summary


def test_a_score_that_its_example_does_not_bear_out_is_named(folder: Path) -> None:
    i = broken(folder)

    def edit(tensors: dict[str, Tensor]) -> None:
        tensors["robust_accuracy"][i] = 1

    change(folder, key(folder, "fgsm"), edit, "cells")
    ids = dataset(DataSpec("digits", 300, IMAGES), None).test.ids
    lines = [line for one in verified(folder) for line in one.disagreements]
    assert lines == [f"image {ids[i]}: broken, recorded as robust"]


def test_a_model_that_is_another_one_now_is_noticed(folder: Path) -> None:
    book = ledger.read(folder)
    assert book is not None
    name = next(e.model_key for e in book.entries if e.trainer == "standard")
    change(folder, name, lambda tensors: [t.neg_() for t in tensors.values()], "models")
    said = [line for one in verified(folder) for line in one.disagreements]
    assert any("misclassified unchanged, recorded as correct unchanged" in line for line in said)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", [KIND, "cells", "models"])
def test_a_damaged_file_is_named_and_the_rest_verified(folder: Path, kind: str) -> None:
    book = ledger.read(folder)
    assert book is not None
    entry = next(e for e in book.entries if (e.metric, e.trainer) == ("fgsm", "standard"))
    name = entry.model_key if kind == "models" else entry.key
    flip(Store(folder).path(kind, name))
    found = verified(folder)
    damaged = [one for one in found if one.damage]
    assert all(name in one.damage for one in damaged)
    assert damaged[0].title == "FGSM Linf 0.1 of standard, seed 0"
    assert (
        sum(one.examples for one in found)
        == EXAMPLES - len([d for d in damaged if "Transfer" not in d.title]) * KEPT
    )
    assert outcome(found, 0)[1] == 5


def test_a_third_partys_file_that_is_gone_is_not_verifiable_and_one_that_changed_is_damage(
    made: tuple[Any, Path], folder: Path
) -> None:
    file = made[1] / "theirs.safetensors"
    content = file.read_bytes()
    try:
        file.unlink()
        found = verified(folder)
        gone = [one for one in found if one.cannot]
        assert len(gone) == 3
        assert all("theirs.safetensors" in one.cannot for one in gone)
        assert outcome(found, 0) == (
            f"{2 * KEPT} examples of {CELLS} cells judged again, 0 disagreements, 3 cells not verifiable.", 0,
        )  # fmt: skip
        assert outcome(gone, 0)[1] == 1, "nothing was judged: no success"
        file.write_bytes(content)
        weights = load_file(file)
        save_file({name: -value for name, value in weights.items()}, file)
        found = verified(folder)
        assert sum("the model is another one" in one.damage for one in found) == 3
        assert outcome(found, 0)[1] == 5
    finally:
        file.write_bytes(content)


def test_more_examples_compute_the_attacks_again_and_fewer_do_not(
    tmp_path: Path, made: tuple[Any, Path]
) -> None:
    base = suite.changed(suite.read(str(made[1] / "tiny.toml")), metrics=["clean_accuracy", "fgsm"])

    def computed(count: int) -> int:
        return int(
            execute(plan(base.model_copy(update={"adversarials": count})), tmp_path).computed
        )

    def saved() -> int:
        tensors, _ = Store(tmp_path).load(KIND, key(tmp_path, "fgsm"))
        return len(tensors["0/adversarial"])

    assert computed(0) == 4  # training, inspection, two cells
    assert verify.examples(tmp_path) == ([], 1)
    records = (tmp_path / "records.csv").read_bytes()
    assert (computed(5), saved()) == (1, 5)
    assert (computed(3), saved()) == (0, 5)
    assert (computed(5000), saved()) == (1, IMAGES)
    assert computed(5000) == 0
    assert computed(0) == 0
    Store(tmp_path).path(KIND, key(tmp_path, "fgsm")).unlink()
    assert (computed(2), saved()) == (1, 2)
    assert (tmp_path / "records.csv").read_bytes() == records


@pytest.mark.parametrize(
    ("metric", "keeps"),
    [("pgd", True), ("transfer", True), ("clean_accuracy", False), ("masking", False)],
)
def test_attacks_keep_examples_and_what_only_compares_attacks_does_not(
    made: tuple[Any, Path], metric: str, keeps: bool
) -> None:
    assert _attacks(replace(made[0].cells[0], metric=Part("metrics", metric, ()))) == keeps


def bench(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmark.cli", "verify", *map(str, words)], cwd=cwd, text=True, check=False,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_command(folder: Path, tmp_path: Path) -> None:
    good = bench("moved", cwd=tmp_path)
    assert (good.returncode, good.stdout) == (
        0,
        f"{EXAMPLES} examples of {CELLS} cells judged again, 0 disagreements.\n",
    )
    assert len(good.stderr.splitlines()) == CELLS
    change(folder, key(folder, "fgsm"), lambda tensors: tensors["0/adversarial"].add_(2))
    bad = bench("moved", cwd=tmp_path)
    assert bad.returncode == 1
    first, *_, summary = bad.stdout.splitlines()
    assert first.startswith("disagreement FGSM Linf 0.1 of standard, seed 0: image ")
    assert "outside the ball" in first
    assert f"{len(bad.stdout.splitlines()) - 1} disagreements" in summary
    assert "Traceback" not in bad.stderr


def test_a_folder_without_a_run_or_without_examples(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a run's folder: it has no plan\.json"):
        verify.examples(tmp_path)
    ledger.write(tmp_path, ledger.Ledger("s", (), {}))
    found = bench(tmp_path, cwd=tmp_path)
    assert found.returncode == 2
    assert "keeps no adversarial examples" in found.stderr
