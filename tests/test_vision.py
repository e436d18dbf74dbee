"""torchvision, timm and robustbench import through benchmark.vision, and through it alone."""

import ast
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from benchmark import vision

ROOT = Path(vision.__file__).parent.parent
CURED = {"torchvision", "timm", "robustbench", "autoattack"}


def _imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    names += [
        n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 0
    ]
    return {name.partition(".")[0] for name in names}


def test_no_other_file_imports_them():
    # autoattack itself may be looked for by the attack that uses it
    for path in (
        p for room in ("benchmark", "trainers", "metrics") for p in (ROOT / room).rglob("*.py")
    ):
        assert not _imported(path) & (CURED - {"autoattack"}), path


def test_torchvision_works_and_stays_the_same_module():
    package = vision.torchvision()
    assert package is vision.torchvision()
    assert package.models.resnet18(weights=None).eval()(torch.zeros(1, 3, 32, 32)).shape == (
        1,
        1000,
    )
    assert hasattr(package.datasets, "CIFAR10")


def test_robustbench_imports_in_a_fresh_process_with_the_old_autoattack():
    code = (
        "from benchmark import vision; r = vision.robustbench(); assert r is vision.robustbench(); "
        "from autoattack import AutoAttack; from autoattack.state import EvaluationState; "
        "vision.timm(); print(r.__name__, len(r.utils.all_models))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("robustbench ")


def test_the_alias_attacks_as_pyautoattack_does():
    from pyautoattack import AutoAttack as New

    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x, y = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    attacks = ["apgd-ce"]
    old = vision._old_autoattack()(
        net,
        "Linf",
        0.1,
        seed=0,
        verbose=False,
        attacks_to_run=attacks,
        version="custom",
        device="cpu",
    )
    new = New(net, norm="Linf", eps=0.1, seed=0, attacks=attacks, version="custom", device="cpu")
    assert torch.equal(
        old.run_standard_evaluation(x, y, bs=4), new.run_standard_evaluation(x, y, batch_size=4)[0]
    )


def test_a_robustbench_that_was_written_over_is_named(monkeypatch, tmp_path):
    """torchattacks 3.5.1 ships an old copy without `benchmark`: whichever is installed last wins."""
    old = ModuleType("robustbench")
    old.__path__ = [str(tmp_path)]
    for name in ("torchvision", "_alias_autoattack"):
        monkeypatch.setattr(vision, name, lambda: None)
    monkeypatch.setattr(vision, "_quietly", lambda name: old)
    with pytest.raises(
        ImportError, match=r"old copy .* \(torchattacks 3\.5\.1 does\): pip uninstall"
    ):
        vision.robustbench()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            ImportError("cannot import name 'Xcit' from 'timm.models'"),
            r"pip install timm==1\.0\.9$",
        ),
        (ModuleNotFoundError("No module named 'gdown'", name="gdown"), r"\); pip install gdown$"),
        (ImportError("broken"), r"pip install --force-reinstall --no-deps robustbench$"),
    ],
)
def test_what_stops_robustbench_is_named_with_the_remedy(monkeypatch, error, remedy):
    def stop(name: str) -> ModuleType:
        raise error

    for name in ("torchvision", "_alias_autoattack"):
        monkeypatch.setattr(vision, name, lambda: None)
    monkeypatch.setattr(vision, "_quietly", stop)
    with pytest.raises(ImportError, match=rf"robustbench does not import \(.*{remedy}"):
        vision.robustbench()


def test_what_the_packages_print_does_not_reach_stdout(capsys):
    with vision.quiet():
        print("Downloading")
        warnings.warn("their own insides", stacklevel=1)
    assert capsys.readouterr() == ("", "Downloading\n")


def test_a_missing_pkg_resources_is_explained(monkeypatch):
    monkeypatch.setattr(vision, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="setuptools<82"):
        vision.robustbench()
