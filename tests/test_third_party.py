"""Models of others in one line: RobustBench, torchvision, timm, a function; with nothing run that is in a file."""

import hashlib
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmark import keys, vision
from benchmark.cards.catalogue import describe
from benchmark.datasets.base import Dataset
from benchmark.datasets.load import load as load_data
from benchmark.errors import IntegrityError
from benchmark.measuring import training
from benchmark.measuring.place import Place
from benchmark.models import _files, _installed, checkpoint, published, spec
from benchmark.models.base import ModelError, seeded
from benchmark.models.checkpoint import Loaded, load
from benchmark.models.spec import SpecError, ZooSpec
from benchmark.planner import plan
from benchmark.running.run import run
from benchmark.storage import manifest
from benchmark.suite import Suite

ROOT = Path(spec.__file__).parent.parent.parent
CIFAR = {"channels": 3, "classes": 10, "size": 32}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Nothing here may reach out: whoever tries fails at once."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("BENCH_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("BENCH_DOWNLOAD", raising=False)
    return tmp_path / "models"


def outputs(model: nn.Module, size: int = 32) -> torch.Tensor:
    x = torch.linspace(0, 1, 2 * 3 * size * size).reshape(2, 3, size, size)
    with torch.no_grad():
        return model(x)


# --- specifications


OWN = "def build():\n    raise SystemExit('the file was run')\nclass Net: ...\nNUMBER = 3\n"


def test_specs_are_checked_and_planned_without_torch_and_without_running_anything(tmp_path):
    (tmp_path / "own.py").write_text("raise SystemExit('the file was run')\ndef build(): ...")
    weights = tmp_path / "models/cifar10/Linf/Wong2020Fast.pt"
    weights.parent.mkdir(parents=True)
    weights.touch()
    models = [
        "robustbench:cifar10/Linf/Wong2020Fast", "torchvision:resnet18", "timm:resnet18.a1_in1k",
        f"timm:resnet18?file={weights}", f"python:{tmp_path}/own.py:build",
    ]  # fmt: skip
    words = ["plan", "--json", "--suite", "zoo", "--dataset", "cifar10"]
    words += [word for model in models for word in ("--model", model)]
    assert json.loads(without_torch(words))["models"] == len(models) + 3
    card = json.loads(without_torch(["show", "--json", models[0]]))
    assert card["autoattack"] == 43.21


def without_torch(words: list[str]) -> str:
    """What the command prints; it must not have imported torch, nor any of the libraries."""
    code = (
        f"import sys; from benchmark.cli import app\ntry: app({words!r})\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "loaded = {'torch', 'torchvision', 'timm', 'robustbench'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("robustbench:cifar10/Linf/Wong2020Fst", r"no 'Wong2020Fst' \(did you mean Wong2020Fast or"),
        ("robustbench:Carmon2019Unlabeled", "here cifar10/Linf/Carmon2019Unlabeled$"),
        ("robustbench:cifar11/Linf/X", "does not name data set, threat and model; .* with cifar10/Linf"),
        ("robustbench:cifar10/Linf/Wong2020Fast", r"not in '.*models/cifar10/Linf/Wong2020Fast\.pt'; put"),
        ("robustbench:cifar10/Linf/Wong2020Fast?dir=/no", r"not in '/no/cifar10/Linf/Wong2020Fast\.pt'"),
        ("robustbench:cifar10/Linf/Wong2020Fast?mean=0", "no setting 'mean'; valid: dir, sha256"),
        ("robustbench:cifar10/Linf/Wong2020Fast?sha256=12", "needs 64 hexadecimal digits, got '12'"),
        ("robustbench:imagenet/Linf/Standard_R50", r"write torchvision:resnet50\?weights=IMAGENET1K_V1"),
        ("torchvision:resnet19", r"torchvision has no model 'resnet19' \(did you mean resnet18"),
        ("torchvision:", "torchvision has no model ''; it has"),
        ("torchvision:resnet18?file=/no.pt", "'/no.pt' does not exist"),
        ("torchvision:resnet18?weights=X&file={}/own.py", "give one of them"),
        ("torchvision:resnet18?mean=0,0,0", "mean has 3 numbers and std 0"),
        ("timm:resnet_19", r"timm has no model 'resnet_19' \(did you mean"),
        ("timm:resnet18?weights=X", "timm has no setting 'weights'; valid: file, mean"),
        ("python:{}/own.py", "does not name its file and function; valid: python:PATH.py:FUNCTION"),
        ("python:{}/gone.py:build", r"gone\.py' does not exist"),
        ("python:{}/own.py:biuld", "defines no function 'biuld'; it defines build, Net"),
        ("python:{}/own.py:NUMBER", "defines no function 'NUMBER'"),
        ("python:{}/needs.py:build", r"build\(\) of .* needs arguments; it is called without any"),
        ("python:{}/broken.py:build", r"broken\.py is not Python"),
        ("file:{}/w.pt@{}/own.py", r"does not name its file and function; valid: .*PATH\.py:FUNCTION"),
        ("file:{}/w.pt@{}/gone.py:build", r"gone\.py' does not exist"),
        ("file:{}/w.pt@{}/own.py:biuld", "defines no function 'biuld'; it defines build, Net"),
        ("file:{}/w.pt@{}/needs.py:build", r"build\(\) of .* needs arguments"),
        ("file:{}/w.pt@{}/own.py:build?activation=gelu", "no setting 'activation'; valid: mean, std, key"),
        ("file:{}/w.pt@Net", r"unknown architecture 'Net'.*; or PATH\.py:FUNCTION, which makes a network"),
        ("file:{}/told.safetensors", r"unknown architecture '/x/own\.py:build'"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_explained_in_one_line(tmp_path, text, message):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "needs.py").write_text("def build(classes): ...")
    (tmp_path / "broken.py").write_text("def build(:")
    (tmp_path / "w.pt").touch()
    told = {"architecture": "/x/own.py:build"}  # a file must not have code run
    save_file({"x": torch.zeros(1)}, tmp_path / "told.safetensors", metadata=told)
    with pytest.raises(SpecError, match=message) as caught:
        spec.parse(text.format(tmp_path, tmp_path))
    assert "\n" not in str(caught.value)


def test_the_names_read_from_source_are_those_the_libraries_have():
    models = vision.torchvision().models
    assert set(_installed.library("torchvision")) == set(models.list_models(module=models))
    timm = vision.timm()
    # RobustBench adds models of its own to timm's list
    known = set(timm.list_models()) - set(_installed.library("timm"))
    homes = {timm.model_entrypoint(name).__module__.partition(".")[0] for name in known}
    assert homes <= {"robustbench"}
    zoo = vision.robustbench().model_zoo.model_dicts
    found = {f"{d.value}/{t.value}": tuple(m) for d, by in zoo.items() for t, m in by.items()}
    assert _installed.zoo() == found


def test_a_library_that_is_not_there_or_was_written_over_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(_installed, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match="timm is not installed: pip install timm"):
        _installed.library.__wrapped__("timm")
    (tmp_path / "model_zoo").mkdir()
    monkeypatch.setattr(_installed, "_folder", lambda name: tmp_path)
    with pytest.raises(SpecError, match=r"has no model_zoo/cifar10\.py; .*torchattacks does"):
        _installed.zoo.__wrapped__()


# --- RobustBench: its layout, equal to its own modules


def entry(group: str, name: str) -> dict:
    package = vision.robustbench()
    for dataset, threats in package.model_zoo.model_dicts.items():
        for threat, models in threats.items():
            if f"{dataset.value}/{threat.value}" == group:
                return models[name]
    raise AssertionError(group)


def reference(group: str, name: str) -> nn.Module:
    """RobustBench's own network with random weights and statistics."""
    with seeded(3), vision.quiet():
        model = entry(group, name)["model"]().eval()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 2)
    return model


def put(folder: Path, group: str, name: str, content: object) -> Path:
    path = folder / group / f"{name}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def plainly(state: dict) -> dict:
    return dict(state)


def in_parallel(state: dict) -> dict:
    return {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}


def last_of_two(state: dict) -> dict:
    return {"best": {name: value * 0 for name, value in state.items()}, "last": plainly(state)}


def from_before(state: dict) -> dict:
    """As files of before RobustBench put normalisations into its networks."""
    kept = {name: v for name, v in state.items() if name not in ("mu", "sigma")}
    return {"state_dict": {f"model.{name}": value for name, value in kept.items()}}


ENTRIES = [  # group, name, classes, how it was saved: PreActResNet-18, WRN-28-10, ResNet-50; Linf, L2, corruptions
    ("cifar10/Linf", "Wong2020Fast", 10, from_before),
    ("cifar10/Linf", "Andriushchenko2020Understanding", 10, last_of_two),
    ("cifar10/Linf", "Rade2021Helper_R18_ddpm", 10, plainly),
    ("cifar10/Linf", "Addepalli2021Towards_RN18", 10, in_parallel),
    ("cifar10/Linf", "Carmon2019Unlabeled", 10, in_parallel),
    ("cifar10/Linf", "Engstrom2019Robustness", 10, from_before),
    ("cifar10/L2", "Rice2020Overfitting", 10, from_before),
    ("cifar10/L2", "Sehwag2021Proxy_R18", 10, plainly),
    ("cifar10/corruptions", "Kireev2021Effectiveness_RLAT", 10, last_of_two),
    ("cifar100/Linf", "Rice2020Overfitting", 100, from_before),
]


@pytest.mark.parametrize(("group", "name", "classes", "saved"), ENTRIES)
def test_robustbench_files_load_as_its_own_modules_do(folder, group, name, classes, saved):
    model = reference(group, name)
    path = put(folder, group, name, saved(model.state_dict()))
    before = torch.get_rng_state()
    found = load(spec.parse(f"robustbench:{group}/{name}"), channels=3, classes=classes, size=32)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(outputs(found.model), outputs(model))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not found.model.training


def test_an_imagenet_file_of_robustbench_lacks_the_normalisation(folder):
    model = reference("imagenet/Linf", "Salman2020Do_R18")
    inner = {f"module.{name}": value for name, value in model.model.state_dict().items()}
    put(folder, "imagenet/Linf", "Salman2020Do_R18", {"state_dict": inner})
    parsed = spec.parse("robustbench:imagenet/Linf/Salman2020Do_R18")
    found = load(parsed, channels=3, classes=1000, size=64)
    assert torch.equal(outputs(found.model, 64), outputs(model, 64))


def test_a_model_that_robustbench_has_timm_build(folder):
    group, name = "cifar10/Linf", "Debenedetti2022Light_XCiT-S12"
    vision.robustbench()
    with seeded(3), vision.quiet():
        model = vision.timm().create_model("debenedetti2022light_xcit_s12_cifar10_linf").eval()
    put(folder, group, name, {"state_dict": model.model.state_dict()})
    found = load(spec.parse(f"robustbench:{group}/{name}"), **CIFAR)
    assert torch.equal(outputs(found.model), outputs(model))


class _Behind(nn.Module):
    """A network behind its normalisation, as RobustBench writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mu", torch.full((1, 3, 1, 1), 0.5))
        self.conv = nn.Conv2d(3, 2, 3, 2)
        self.linear = nn.Linear(2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(x - self.mu).mean((2, 3)))


class _Together(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.models = nn.ModuleList([_Behind(), _Behind()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(model(x) for model in self.models)


@pytest.fixture
def tiny(folder, monkeypatch):
    """A small model in RobustBench's zoo: `tiny(content)` is its specification, with that content in its file."""
    models = {"Tiny": {"model": _Behind, "gdrive_id": "some-id"},
              "Two": {"model": _Together, "gdrive_id": ["id-0", "id-1"]}}  # fmt: skip
    zoo = vision.robustbench().model_zoo.model_dicts
    table = next(threats for dataset, threats in zoo.items() if dataset.value == "cifar10")
    linf = next(models for threat, models in table.items() if threat.value == "Linf")
    for name, model in models.items():
        monkeypatch.setitem(linf, name, model)

    def with_file(
        content: object = None, pins: tuple[str, ...] = (), name: str = "Tiny"
    ) -> ZooSpec:
        if content is not None:
            put(folder, "cifar10/Linf", name, content)
        return ZooSpec(f"robustbench:cifar10/Linf/{name}", "cifar10/Linf", name, folder, pins)

    return with_file


def test_what_files_have_more_or_less_is_known_and_no_more_than_that(tiny):
    model = _Behind().eval()
    state = model.state_dict()
    extra = {"model_preact_hl1.1.weight": torch.zeros(1), "conv.scores": torch.zeros(1)}
    less = {name: value for name, value in state.items() if name != "mu"}
    assert torch.equal(outputs(load(tiny(less | extra), **CIFAR).model), outputs(model))
    for changed, message in [
        ({name: value for name, value in state.items() if name != "conv.bias"}, "misses conv.bias"),
        (state | {"conv2.weight": torch.zeros(1)}, "has in excess conv2.weight"),
        (state | {"conv.bias": torch.zeros(3)}, r"conv.bias has shape \(3,\) in the file"),
        (
            state | {"conv.bias": torch.tensor([0.0, float("nan")])},
            "conv.bias holds NaN .*take another",
        ),
    ]:
        with pytest.raises(
            ModelError, match=rf"Tiny\.pt .*{message}.*from https://drive.google.com"
        ):
            load(tiny(changed), **CIFAR)


def test_an_ensemble_has_a_file_for_each_of_its_networks(tiny, folder):
    with seeded(1):
        model = _Together().eval()
    for i, part in enumerate(model.models):
        put(folder, "cifar10/Linf", f"Two.pt_m{i}", part.state_dict())
    digests = [
        hashlib.sha256((folder / f"cifar10/Linf/Two.pt_m{i}.pt").read_bytes()).hexdigest()
        for i in range(2)
    ]
    found = load(tiny(name="Two", pins=tuple(digests)), **CIFAR)
    assert torch.equal(outputs(found.model), outputs(model))
    assert found.sha256 == "+".join(digests)
    with pytest.raises(ModelError, match="sha256 pins 1 files, the model has 2"):
        load(tiny(name="Two", pins=(digests[0],)), **CIFAR)


def test_a_network_that_cannot_be_built_here_is_a_line(tiny, monkeypatch):
    zoo = vision.robustbench().model_zoo.model_dicts

    def build() -> nn.Module:
        raise AssertionError("Torch not compiled with CUDA enabled")

    for threats in zoo.values():
        for models in threats.values():
            if "Tiny" in models:
                monkeypatch.setitem(models, "Tiny", {"model": build, "gdrive_id": "x"})
    with pytest.raises(ModelError, match=r"Tiny: RobustBench cannot build it here \(.*CUDA"):
        load(tiny(_Behind().state_dict()), **CIFAR)


# --- downloads


PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


def _bytes(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


WHOLE = _bytes(_Behind().state_dict())


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("Tiny.pt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ODD = {
    "a page": (PAGE, "is a web page, not a checkpoint: .*delete it and get it again"),
    "nothing": (b"", r"is empty \(0 bytes\); delete it and get it again"),
    "half a file": (WHOLE[: len(WHOLE) // 2], "is truncated or damaged .*; delete it and get it again"),
    "a tar": (tarred(WHOLE), "is a tar archive; unpack it and name the checkpoint"),
    "a gzip": (b"\x1f\x8b" + WHOLE, "is a gzip archive; unpack it"),
    "a folder's zip": (zipped(**{"models/Tiny.pt": WHOLE}), "zip archive that torch.save did not write"),
    "a climbing zip": (
        zipped(**{"a/data.pkl": b"", "../../evil.pt": b"x"}),
        r"refused: the archive holds a path that leads out of it \('../../evil.pt'\)",
    ),
    "an absolute zip": (zipped(**{"a/data.pkl": b"", "/etc/x": b"x"}), "refused: .*'/etc/x'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_a_download_that_is_no_checkpoint_is_named_and_not_kept(tiny, folder, monkeypatch, kind):
    content, message = ODD[kind]
    path = folder / "cifar10/Linf/Tiny.pt"
    monkeypatch.setenv("BENCH_DOWNLOAD", "1")
    # RobustBench's own downloader, down to the library it calls
    monkeypatch.setattr(
        "gdown.download", lambda id, output: Path(output).write_bytes(content) and output
    )
    with pytest.raises(
        ModelError, match=f"download from .*uc.id=some-id .*{message}.*nothing was kept"
    ) as caught:
        load(tiny(), **CIFAR)
    assert "\n" not in str(caught.value)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ODD)
def test_what_another_tool_left_there_is_named_with_the_remedy(tiny, folder, tmp_path, kind):
    content, message = ODD[kind]
    path = folder / "cifar10/Linf/Tiny.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{path} .*{message}.*\(from https://drive.google.com"):
        load(tiny(), **CIFAR)
    assert not list(tmp_path.rglob("evil.pt"))


def test_a_download_is_kept_once_and_only_made_if_it_is_asked_for(tiny, folder, monkeypatch):
    calls = []

    def download(id: str, output: str) -> None:
        calls.append(id)
        Path(output).write_bytes(WHOLE)

    monkeypatch.setattr("gdown.download", download)
    with pytest.raises(ModelError, match=r"Tiny\.pt does not exist; put .* BENCH_DOWNLOAD=1"):
        load(tiny(), **CIFAR)
    monkeypatch.setenv("BENCH_DOWNLOAD", "1")
    first = load(tiny(), **CIFAR)
    monkeypatch.delenv("BENCH_DOWNLOAD")
    assert load(tiny(), **CIFAR).sha256 == first.sha256
    assert calls == ["some-id"]
    assert [path.name for path in folder.rglob("*.pt")] == ["Tiny.pt"]


def test_no_network_is_a_line_that_says_what_to_do(tiny, monkeypatch, capsys):
    monkeypatch.setenv("BENCH_DOWNLOAD", "1")
    with pytest.raises(ModelError, match=r"cannot be downloaded from .*put the file at .*Tiny\.pt"):
        load(tiny(), **CIFAR)
    assert capsys.readouterr().out == ""


# --- nothing of a file is run


class _Harm:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("harm-was-done",)


class _Sneaky:
    """Would call numpy's constructor of scalars, which a stand-in takes the place of."""

    def __reduce__(self) -> tuple:
        return np.dtype, ("f8", False, True), (3, "<", None, None, None, -1, -1, 0)


def test_a_malicious_file_is_refused_whatever_the_user_has_allowed(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = _Behind().state_dict()
    for protocol in (2, 4):
        harm = pickle.dumps({"state_dict": state, "note": _Harm()}, protocol=protocol)
        path = tiny(state).path
        path.write_bytes(harm)
        with pytest.raises(ModelError, match=r"refused: .* run code"):
            load(tiny(), **CIFAR)
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([os.mkdir])
    try:
        with pytest.raises(ModelError, match=r"refused: loading it would run code \(posix.mkdir\)"):
            load(tiny({"state_dict": state, "note": _Harm()}), **CIFAR)
        assert set(torch.serialization.get_safe_globals()) == {*before, os.mkdir}, "they stay"
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
    assert not (tmp_path / "harm-was-done").exists()


def test_numbers_of_numpy_beside_the_weights_do_not_matter_and_are_not_made(tiny, tmp_path):
    import argparse

    state = _Behind().state_dict()
    beside = {
        "best": np.float64(91.3), "curve": np.arange(3.0), "args": argparse.Namespace(lr=0.1),
        "type": _Sneaky(),
    }  # fmt: skip
    parsed = tiny({"state_dict": state, **beside})
    assert load(parsed, **CIFAR).sha256
    allowed = set(torch.serialization.get_safe_globals())
    found, _ = _files.load(parsed.path)
    for name in beside:
        assert isinstance(found[name], _files._StandIn), name
    assert set(torch.serialization.get_safe_globals()) == allowed
    with pytest.raises(ModelError, match="entry 'best' is a scalar, not a tensor"):
        load(tiny({**state, "best": np.float64(1)}), **CIFAR)


def test_a_pinned_file_is_not_even_looked_at_if_it_is_another(tiny, tmp_path, monkeypatch):
    path = tiny(_Behind().state_dict()).path
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load(tiny(pins=(digest,)), **CIFAR).sha256 == digest
    torch.save(nn.Linear(2, 10).state_dict(), tmp_path / "w.pt")
    own = hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest()
    monkeypatch.setattr(_files, "read", lambda *_: pytest.fail("it was looked at"))
    with pytest.raises(ModelError, match=f"sha256 is {digest}, the specification pins {'0' * 64}"):
        load(tiny(pins=("0" * 64,)), **CIFAR)
    for text in ("file:{}@mlp?sha256={}", "torchvision:alexnet?file={}&sha256={}"):
        parsed = spec.parse(text.format(tmp_path / "w.pt", "0" * 64))
        with pytest.raises(ModelError, match=f"sha256 is {own}, the specification pins 0000"):
            load(parsed, **CIFAR)


# --- torchvision, timm


def test_a_file_of_weights_in_a_network_of_torchvision(tmp_path):
    models = vision.torchvision().models
    with seeded(2):
        net = models.squeezenet1_1(num_classes=10).eval()
    torch.save({"state_dict": {f"module.{n}": v for n, v in net.state_dict().items()}}, tmp_path / "w.pt")  # fmt: skip
    plain = load(spec.parse(f"torchvision:squeezenet1_1?file={tmp_path}/w.pt"), **CIFAR)
    assert torch.equal(outputs(plain.model), outputs(net))
    text = f"torchvision:squeezenet1_1?file={tmp_path}/w.pt&mean=0.5,0.25,0&std=0.5,1,2"
    behind = load(spec.parse(text), **CIFAR)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.5, 0.25, 0.0), (0.5, 1.0, 2.0)))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(behind.model(x), net((x - mean) / std))
    with pytest.raises(ModelError, match=r"w\.pt is not a alexnet: the file misses"):
        load(spec.parse(f"torchvision:alexnet?file={tmp_path}/w.pt"), **CIFAR)
    with pytest.raises(ModelError, match=r"classifier.1.weight has shape \(10, 512, 1, 1\)"):
        load(
            spec.parse(f"torchvision:squeezenet1_1?file={tmp_path}/w.pt"), **CIFAR | {"classes": 4}
        )


def test_torchvisions_own_weights_from_its_own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    models = vision.torchvision().models
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    text, shape = "torchvision:squeezenet1_1", {"channels": 3, "classes": 1000, "size": 64}
    with pytest.raises(ModelError, match=rf"does not exist; put the file from {weights.url} there"):
        load(spec.parse(text), **shape)
    with seeded(2):
        net = models.squeezenet1_1().eval()
    path = tmp_path / "hub/checkpoints" / Path(weights.url).name
    path.parent.mkdir(parents=True)
    torch.save(net.state_dict(), path)
    found = load(spec.parse(f"{text}?weights=IMAGENET1K_V1"), **shape)
    look = weights.transforms()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (look.mean, look.std))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.model(x), net((x - mean) / std))
    with pytest.raises(
        ModelError, match=r"for 1000 classes, the data set has 10; .file=PATH names"
    ):
        load(spec.parse(text), **CIFAR)
    with pytest.raises(ModelError, match="no weights 'V9' of it; valid: IMAGENET1K_V1"):
        load(spec.parse(f"{text}?weights=V9"), **shape)


def test_torchvisions_download_is_checked_by_the_digest_in_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("BENCH_DOWNLOAD", "1")
    seen = []

    def download(url: str, to: str, prefix: str, progress: bool) -> None:
        seen.append(prefix)
        Path(to).write_bytes(PAGE)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(ModelError, match=r"web page.*nothing was kept"):
        load(spec.parse("torchvision:resnet18"), channels=3, classes=1000, size=64)
    assert seen == ["f37072fd"]
    assert not any(path.is_file() for path in tmp_path.rglob("resnet*"))


def test_shapes_are_compared_before_numbers_are_looked_at(tmp_path):
    """A file of a few bytes may hold a view of one number that is larger than memory."""
    name = "mobilenetv3_small_050"
    with seeded(2), vision.quiet():
        state = vision.timm().create_model(name, num_classes=10).state_dict()
    state["classifier.weight"] = torch.full((), torch.nan).expand(10**4, 10**3)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=rf"is not a {name} for 10 classes"):
        load(spec.parse(f"timm:{name}?file={tmp_path}/w.pt"), **CIFAR)
    state["classifier.weight"] = torch.full((10, 1024), torch.nan)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"classifier\.weight holds NaN"):
        load(spec.parse(f"timm:{name}?file={tmp_path}/w.pt"), **CIFAR)


def test_timm_with_a_file_and_with_its_own_weights(tmp_path, monkeypatch):
    timm = vision.timm()
    name = "mobilenetv3_small_050"
    with seeded(2), vision.quiet():
        net = timm.create_model(name, num_classes=10).eval()
        whole = timm.create_model(name).eval()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    found = load(spec.parse(f"timm:{name}?file={tmp_path}/w.safetensors"), **CIFAR)
    assert torch.equal(outputs(found.model), outputs(net))
    for wrong in ({"classes": 4}, {"channels": 1}):
        with pytest.raises(ModelError, match=rf"w\.safetensors is not a {name} for \d+ classes"):
            load(spec.parse(f"timm:{name}?file={tmp_path}/w.safetensors"), **CIFAR | wrong)

    imagenet = {"channels": 3, "classes": 1000, "size": 64}
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r"not on this machine .*huggingface\.co/timm/mobilenet"):
        load(spec.parse(f"timm:{name}"), **imagenet)
    with pytest.raises(ModelError, match=r"timm has no weights 'x' of it; valid: .*lamb_in1k"):
        load(spec.parse(f"timm:{name}.x"), **imagenet)
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def hub(repository: str, file: str, **settings: object) -> str:
        asked.append((repository, file))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    found = load(spec.parse(f"timm:{name}.lamb_in1k"), **imagenet)
    assert asked == [(f"timm/{name}.lamb_in1k", "model.safetensors")]
    config = timm.models.get_pretrained_cfg(f"{name}.lamb_in1k")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean, config.std))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.model(x), whole((x - mean) / std))


# --- the user's own function


GOOD = """
import torch
from torch import nn

def build():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    nn.init.normal_(net[2].weight)
    return net

class Net(nn.Linear):
    def __init__(self): super().__init__(64, 10)
    def forward(self, x): return super().forward(x.flatten(1))

class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Net()
    def forward(self, x): return self.model(x)

def number(): return 3
def leave(): raise SystemExit(1)
def fail(): return nn.Linear("x", 2)
def broken():
    net = build()
    net[2].bias.data[1] = torch.nan
    return net
def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
def pair(): return type("Pair", (nn.Module,), {"forward": lambda self, x: (x, x)})()
"""
DIGITS = {"channels": 1, "classes": 10, "size": 8}


def own(tmp_path: Path, function: str, text: str = GOOD, **shape: int) -> Loaded:
    (tmp_path / "own.py").write_text(text)
    return load(spec.parse(f"python:{tmp_path}/own.py:{function}"), **DIGITS | shape)


def test_a_function_gives_a_model_that_is_the_same_each_time(tmp_path):
    first = own(tmp_path, "build")
    assert not first.model.training
    assert own(tmp_path, "build").sha256 == first.sha256, "torch's random numbers are seeded"
    assert own(tmp_path, "Net").model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    other = own(tmp_path, "build", GOOD.replace("normal_(net[2].weight)", "zeros_(net[2].weight)"))
    assert other.sha256 != first.sha256


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", r"number\(\) gives back a int, not a torch.nn.Module"),
        ("leave", r"leave\(\) gives no model: SystemExit: 1"),
        ("fail", r"fail\(\) gives no model: TypeError: "),
        ("broken", "2.bias holds NaN"),
        ("narrow", r"gives an output of shape \(1, 4\) .*10 classes need \(1, 10\)"),
        ("pair", "gives an output of type tuple for one of the images of 1x8x8"),
    ],
)
def test_what_a_function_must_not_do_is_one_line(tmp_path, function, message):
    with pytest.raises(ModelError, match=rf"own\.py: {message}") as caught:
        own(tmp_path, function)
    assert "\n" not in str(caught.value)


def test_images_a_model_does_not_take_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"does not take images of 3x32x32 \(RuntimeError: "):
        own(tmp_path, "build", **CIFAR)


# --- weights in a file, for a network of the user's own


def filled(
    tmp_path: Path, function: str, state: dict[str, torch.Tensor], query: str = ""
) -> Loaded:
    (tmp_path / "own.py").write_text(GOOD)
    save_file(state, tmp_path / "w.safetensors")
    text = f"file:{tmp_path}/w.safetensors@{tmp_path}/own.py:{function}{query}"
    return load(spec.parse(text), **DIGITS)


def test_a_file_fills_a_network_of_ones_own_behind_its_normalisation(tmp_path):
    theirs, x = nn.Linear(64, 10), torch.rand(2, 1, 8, 8)
    found = filled(tmp_path, "Net", theirs.state_dict())
    assert not found.model.training
    assert torch.equal(found.model(x), theirs(x.flatten(1)))
    assert found.sha256 == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    scaled = filled(tmp_path, "Net", theirs.state_dict(), "?mean=0.5&std=0.25")
    assert torch.equal(scaled.model(x), theirs(((x - 0.5) / 0.25).flatten(1)))


def test_a_networks_own_prefix_is_none_of_a_wrappers(tmp_path):
    theirs = nn.Linear(64, 10)
    state = {f"model.{name}": value for name, value in theirs.state_dict().items()}
    for wrapped in (state, {f"module.{name}": value for name, value in state.items()}):
        found = filled(tmp_path, "Held", wrapped)
        assert torch.equal(found.model.net.model.weight, theirs.weight)
    assert torch.equal(filled(tmp_path, "Net", state).model.net.weight, theirs.weight)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "narrow",
            r"w\.safetensors: is not a /.*own\.py:narrow: the file misses 1\.weight, 1\.bias and has in",
        ),
        ("Net", r"weight has shape \(10, 9\) in the file, \(10, 64\) in /.*own\.py:Net"),
        ("fail", r"w\.safetensors: /.*own\.py: fail\(\) gives no model: TypeError: "),
        ("number", r"own\.py: number\(\) gives back a int, not a torch\.nn\.Module"),
    ],
)
def test_weights_that_do_not_fit_ones_own_network_are_one_line(tmp_path, function, message):
    with pytest.raises(ModelError, match=message) as caught:
        filled(tmp_path, function, nn.Linear(9, 10).state_dict())
    assert "\n" not in str(caught.value)


def test_the_key_of_a_filled_network_has_its_weights_and_its_code_not_their_places(tmp_path):
    def key(folder: Path, code: str = GOOD, query: str = "", function: str = "Net") -> str:
        folder.mkdir(exist_ok=True)
        (folder / "own.py").write_text(code)
        save_file(nn.Linear(64, 10).state_dict(), folder / "w.pt")
        for cached in (keys.code_version, keys._code):
            cached.cache_clear()
        parsed = spec.parse(f"file:{folder}/w.pt@{folder}/own.py:{function}{query}")
        return keys.key("the file's digest", checkpoint.facts(parsed))

    plain = key(tmp_path / "a")
    assert key(tmp_path / "b") == plain
    assert key(tmp_path / "b", query="?licence=MIT") == plain
    others = [
        key(tmp_path / "b", GOOD.replace("x.flatten(1)", "-x.flatten(1)")),
        key(tmp_path / "b", query="?mean=0.5&std=0.5"),
        key(tmp_path / "b", function="build"),
    ]
    assert len({plain, *others}) == 4


# --- in the tables, beside models trained here


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def done(suite: Suite, folder: Path) -> tuple[Place, object]:
    place = Place(folder, None, "cpu")
    begin = lambda jobs: lambda outcome: None  # noqa: E731
    return place, run(plan(suite), place, 1, begin=begin, words="bench run")


def suite(*models: str) -> Suite:
    return Suite(
        name="s", limit=20, train_limit=60, model=list(models), gallery={"images": 0},
        metric=[{"name": "clean_accuracy"}, {"name": "pgd", "steps": 2}],
    )  # fmt: skip


def test_a_function_and_a_file_stand_in_one_table_and_their_digests_in_the_manifest(tmp_path):
    (tmp_path / "own.py").write_text(GOOD)
    save_file(nn.Linear(64, 10).state_dict(), tmp_path / "w.safetensors")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    torch.save({"1.weight": net[1].weight, "1.bias": net[1].bias}, tmp_path / "w.pt")
    names = [
        f"python:{tmp_path}/own.py:build",
        f"file:{tmp_path}/w.pt@mlp?depth=0",
        f"file:{tmp_path}/w.safetensors@{tmp_path}/own.py:Net",
    ]
    place, result = done(suite(*names), tmp_path / "run")
    assert result.failed == ()
    weights = manifest.read(place.folder)["weights"]
    assert weights[names[1]] == hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest()
    assert set(weights) == set(names)
    table = (place.folder / "records.csv").read_text()
    assert all(name in table for name in names)


def test_a_changed_function_is_another_model_and_one_that_draws_is_an_error(tmp_path):
    (tmp_path / "own.py").write_text(GOOD)
    name = f"python:{tmp_path}/own.py:build"
    place, _ = done(suite(name), tmp_path / "run")
    assert done(suite(name), tmp_path / "run")[1].computed == 0
    (tmp_path / "own.py").write_text(GOOD.replace("normal_", "uniform_"))
    for cached in (keys.code_version, keys._code):
        cached.cache_clear()
    assert done(suite(name), tmp_path / "run")[1].computed == 3

    drawn = GOOD.replace("nn.init.normal_(net[2].weight)", "net[2].bias.data[0] = np.random.rand()")
    (tmp_path / "drawn.py").write_text("import numpy as np\n" + drawn)
    parsed = plan(suite(f"python:{tmp_path}/drawn.py:build")).trainings[0]
    digest = training.third_party(parsed.model, load_data("digits")).sha256
    key = training.model_key(place, parsed, {parsed.model: digest})
    with pytest.raises(IntegrityError, match=r"another one than when the run began: .*not torch's"):
        training.model(place, parsed, key)


def test_the_key_of_a_model_is_its_weights_whatever_their_place(tmp_path, folder):
    model = reference("cifar10/Linf", "Wong2020Fast")
    path = put(folder, "cifar10/Linf", "Wong2020Fast", model.state_dict())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    elsewhere = put(tmp_path / "b", "cifar10/Linf", "Wong2020Fast", model.state_dict())
    texts = ["", f"?dir={tmp_path}/b", f"?sha256={digest}"]
    parsed = [plan(suite(f"robustbench:cifar10/Linf/Wong2020Fast{t}")).trainings[0] for t in texts]
    place = Place(tmp_path, None, "cpu")
    made = {training.model_key(place, t, {t.model: digest}) for t in parsed}
    assert len(made) == 1
    assert training.model_key(place, parsed[0], {parsed[0].model: "0"}) not in made
    assert elsewhere.is_file()


# --- what is published


def test_published_numbers_are_those_of_robustbench():
    """Against the table of RobustBench's model_info that the project's notes have, taken down by another hand."""
    for name, clean, autoattack in [
        ("cifar10/Linf/Standard", 94.78, 0.0),
        ("cifar10/Linf/Engstrom2019Robustness", 87.03, 49.25),
        ("cifar10/Linf/Wong2020Fast", 83.34, 43.21),
        ("cifar10/Linf/Chan2020Jacobian", 93.79, 0.26),
        ("cifar10/Linf/Xiao2020Enhancing", 79.28, 18.50),
        ("cifar10/L2/Rice2020Overfitting", 88.67, 67.68),
        ("cifar10/L2/Rade2021Helper_R18_ddpm", 90.57, 76.15),
        ("imagenet/Linf/Salman2020Do_R18", 52.92, 25.32),
    ]:
        facts = published.published(f"robustbench:{name}?dir=x")
        assert (facts["clean"], facts["autoattack"]) == (clean, autoattack), name
        assert "RobustBench" in facts["source"]
    assert published.published("robustbench:cifar10/Linf/Xiao2020Enhancing")["external"] == 7.4
    assert (
        published.published("robustbench:cifar10/L2/Rony2019Decoupling")["licence"]
        == "BSD-3-Clause"
    )
    for text in (
        "file:a.pt@mlp",
        "robustbench:cifar10/Linf",
        "robustbench:cifar10/Linf/No",
        "timm:x",
    ):
        assert published.published(text) is None


def test_every_model_of_the_zoo_has_a_card_and_its_group_a_list(folder):
    for group, names in _installed.zoo().items():
        text, facts = describe(f"robustbench:{group}")
        assert all(name in text for name in names)
        assert all(0 <= facts["models"][name]["clean"] <= 100 for name in names)
    text, facts = describe("robustbench:cifar10/Linf/Gowal2021Improving_R18_ddpm_100m")
    assert "Licence of the weights: Apache-2.0" in text
    assert "(not there: BENCH_DOWNLOAD=1" in text
    path = put(folder, "cifar10/Linf", "Wong2020Fast", {})
    text, facts = describe("robustbench:cifar10/Linf/Wong2020Fast")
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "Accuracy under AutoAttack in %: 43.21" in text
    assert json.dumps(facts)
    with pytest.raises(SpecError, match="did you mean Wong2020Fast"):
        describe("robustbench:cifar10/Linf/Wong2020")


def test_the_table_of_published_numbers_is_made_by_its_command(tmp_path):
    info = {
        "link": "https://x", "name": 'A "title"', "venue": "N/A", "architecture": "WRN", "eps": "8/255",
        "clean_acc": "90.5", "autoattack_acc": "50", "additional_data": True, "unreliable": False,
    }  # fmt: skip
    (tmp_path / "cifar10/Linf").mkdir(parents=True)
    (tmp_path / "cifar10/Linf/Gowal2020Uncovering_x.json").write_text(json.dumps(info))
    (tmp_path / "cifar10/Linf/A.b.json").write_text(json.dumps(info))
    read = published.tomllib.loads("\n".join(published._written(tmp_path, "here")))
    assert read["source"] == "here"
    assert read["cifar10"]["Linf"]["A.b"] == {
        "clean": 90.5, "autoattack": 50.0, "eps": "8/255", "architecture": "WRN",
        "paper": '"A "title"", https://x', "extra_data": True,
    }  # fmt: skip
    assert read["cifar10"]["Linf"]["Gowal2020Uncovering_x"]["licence"] == "Apache-2.0"


# ---- cards ----


def test_the_card_of_a_librarys_model_says_where_it_is_from() -> None:
    text, facts = describe("torchvision:resnet18")
    assert facts["top1"] == 69.758
    assert facts["classes"] == 1000
    assert facts["download"] == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert "Licence of the weights: " in text
    with pytest.raises(SpecError, match=r"no weights 'NO' of resnet18; valid: IMAGENET1K_V1"):
        describe("torchvision:resnet18?weights=NO")


def test_the_card_of_a_file_has_its_digest_and_loads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    path.write_bytes(b"not a checkpoint")
    text, facts = describe(f"file:{path}@mlp")
    assert facts["sha256"] == hashlib.sha256(b"not a checkpoint").hexdigest()
    assert facts["bytes"] == 16
    assert "Architecture: mlp" in text
    assert "Licence of the weights: not stated: give licence=..." in text
    origin = "licence=CC BY 4.0&source=https://example.org/?a=1"
    text, facts = describe(f"file:{path}@mlp?{origin}")
    assert (facts["licence"], facts["source"]) == ("CC BY 4.0", "https://example.org/?a=1")
    plain, told = (
        keys.key(checkpoint.facts(spec.parse(f"file:{path}@mlp{more}")))
        for more in ("", f"?{origin}")
    )
    assert plain == told, "whose it is makes no other model of it"
    assert plain != keys.key(checkpoint.facts(spec.parse(f"file:{path}@mlp?mean=0.5&std=0.5")))
    with pytest.raises(SpecError, match="does not exist"):
        describe(f"file:{tmp_path}/none.pt@mlp")
    code = tmp_path / "make.py"
    code.write_text("raise AssertionError('it was run')\ndef model(): ...")
    with pytest.raises(SpecError, match="has no card"):
        describe(f"python:{code}:model")
