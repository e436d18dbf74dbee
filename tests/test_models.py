"""Every architecture builds; specs and checkpoints load, or are refused in one line that says why."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmark import vision
from benchmark.cards import cards
from benchmark.datasets.load import load as load_data
from benchmark.models import _header, _settings, spec
from benchmark.models.base import ModelError, Normalised, activation_layer, build
from benchmark.models.checkpoint import load
from metrics.case import predict

ROOT = Path(spec.__file__).parent.parent.parent
GREY, COLOUR = {"mean": [0.5], "std": [0.5]}, {"mean": [0.5] * 3, "std": [0.5] * 3}
SIZES = [(1, 28, 10), (3, 32, 10), (3, 32, 4)]
WIDE = {
    "preact_resnet18": {"width": 8},
    "resnet50": {"width": 4},
    "wide_resnet28_10": {"width": 1},
    "wide_resnet34_10": {"width": 1},
}  # millions of parameters are not needed here


def make(
    architecture: str, channels: int = 1, size: int = 28, classes: int = 10, **settings
) -> Normalised:
    normalisation = GREY if channels == 1 else COLOUR
    settings = {"seed": 0} | WIDE.get(architecture, {}) | settings
    return build(
        architecture, channels=channels, classes=classes, size=size, **normalisation, **settings
    ).eval()


@pytest.mark.parametrize("architecture", sorted(cards("models")))
def test_every_architecture_gives_finite_logits_for_any_shape(architecture):
    for channels, size, classes in SIZES:
        logits = make(architecture, channels, size, classes)(torch.rand(2, channels, size, size))
        assert logits.shape == (2, classes)
        assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", sorted(cards("models")))
def test_every_architecture_takes_every_activation(architecture):
    x = torch.rand(2, 1, 28, 28)
    relu = make(architecture)
    for name, kind in {"softplus": nn.Softplus, "gelu": nn.GELU, "silu": nn.SiLU}.items():
        other = make(architecture, activation=name)
        assert not any(isinstance(layer, nn.ReLU) for layer in other.modules())
        assert any(isinstance(layer, kind) for layer in other.modules())
        assert relu.state_dict().keys() == other.state_dict().keys()
        assert not torch.equal(relu(x), other(x))


@pytest.mark.parametrize("architecture", sorted(cards("models")))
def test_the_seed_alone_determines_the_weights(architecture):
    before = torch.get_rng_state()
    first = make(architecture).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(1)
    again, other = make(architecture).state_dict(), make(architecture, seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("architecture", sorted(cards("models")))
def test_every_activation_is_a_module_of_its_own_that_leaves_its_input(architecture):
    """Attribution methods hook modules: one that is used twice, or works in place, gives wrong results."""
    calls: list[nn.Module] = []
    model = make(architecture)
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            assert not layer.inplace
            layer.register_forward_hook(lambda layer, *_: calls.append(layer))
    model(torch.rand(1, 1, 28, 28))
    assert len(calls) == len(set(calls)) > 0


@pytest.mark.parametrize("depth", [28, 34])
@pytest.mark.parametrize("width", [1, 2])
def test_wide_resnets_are_those_of_robustbench(depth, width):
    """The same names, the same shapes, the same logits."""
    vision.robustbench()
    from robustbench.model_zoo.architectures.wide_resnet import WideResNet

    theirs = WideResNet(depth=depth, widen_factor=width).eval()
    ours = make(f"wide_resnet{depth}_10", 3, 32, width=width).net
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs(x))


def test_normalisation_is_inside_and_checks_the_channels():
    model = Normalised(nn.Flatten(), mean=[0.25, 0.5], std=[0.5, 0.25])
    assert torch.equal(model(torch.full((1, 2, 1, 1), 0.75)), torch.tensor([[1.0, 1.0]]))
    with pytest.raises(
        ModelError, match=r"takes images \(n, 2, H, W\), got a tensor of shape \(1, 3, 4, 4\)"
    ):
        model(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ModelError, match="std needs positive"):
        Normalised(nn.Flatten(), mean=[0.0], std=[0.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "smal_cnn"}, "did you mean 'small_cnn'"),
        ({"architecture": "base"}, "unknown architecture 'base'"),
        ({"architecture": "small_cnn", "size": 1}, "small_cnn: images of 1x1 pixels are too small"),
        (
            {"architecture": "small_cnn", "padding": 1},
            "no option 'padding' .*valid: first, hidden, pad, second",
        ),
        ({"architecture": "mlp", "activation": "tanh"}, "unknown activation 'tanh'"),
        ({"architecture": "mlp", "mean": [0.1] * 3, "std": [1.0] * 3}, "each of 1 channels"),
    ],
)
def test_what_cannot_be_built_is_explained(settings, message):
    with pytest.raises(ModelError, match=message):
        build(**({"channels": 1, "classes": 10, "size": 28, "seed": 0, **GREY} | settings))


# --- specs


def test_a_spec_says_where_what_and_how(tmp_path):
    (tmp_path / "a@b.pt").write_bytes(b"x")
    query = "mean=125.5/255,0.5,0.25&std=1,1,2&key=state_dict.0&ignore=a,b&pad=0&activation=gelu"
    found = spec.parse(f"file:{tmp_path}/a@b.pt@small_cnn?{query}")
    assert (found.path, found.architecture) == (tmp_path / "a@b.pt", "small_cnn")
    assert found.mean == (125.5 / 255, 0.5, 0.25)
    assert found.std == (1, 1, 2)
    assert (found.key, found.ignore) == (("state_dict", "0"), ("a", "b"))
    assert (found.options, found.activation) == ((("pad", 0),), "gelu")


def test_the_origin_of_a_file_is_read_without_it() -> None:
    told = spec.origin("file:gone.pt@mlp?mean=0.5&licence=MIT&std=1&source=https://e.org/?a=b")
    assert told == {"licence": "MIT", "source": "https://e.org/?a=b"}
    assert spec.origin("file:gone.pt@mlp") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mine.pt",
            "unknown kind 'mine.pt'; valid: file:PATH@ARCH.*; robustbench:DATASET/THREAT/NAME",
        ),
        ("hub:mine.pt", "unknown kind 'hub'"),
        ("file:mine.pt", "does not name its file and architecture"),
        ("file:{}@smal_cnn", "did you mean 'small_cnn'"),
        ("file:{}.gone@mlp", r"\.gone' does not exist"),
        ("file:{}/..@mlp", "is a folder|does not exist"),
        (
            "file:{}@mlp?means=0.5",
            "has no setting 'means'; valid: mean, std, key, ignore, sha256, activation, licence, source, hidden, depth",
        ),
        ("file:{}@mlp?mean=0.5", "mean has 1 numbers and std 0"),
        ("file:{}@mlp?mean=half&std=1", "'half' is not a number"),
        ("file:{}@mlp?mean=1/0&std=1", "'1/0' is not a number"),
        ("file:{}@mlp?mean=0&std=0", "std needs positive"),
        ("file:{}@mlp?depth=-1", "depth needs a whole number, got '-1'"),
        ("file:{}@mlp?depth=1&depth=2", "stands there twice"),
        ("file:{}@mlp?key=", "'key=' has no value"),
        ("file:{}@mlp?activation=tanh", "unknown activation 'tanh'"),
        ("file:{}@mlp?sha256=abc", "sha256 needs 64 hexadecimal digits, got 'abc'"),
    ],
)
def test_a_wrong_spec_is_explained_in_one_line(tmp_path, text, message):
    (tmp_path / "mine.pt").write_bytes(b"x")
    with pytest.raises(spec.SpecError, match=message) as caught:
        spec.parse(text.format(tmp_path / "mine.pt"))
    assert "\n" not in str(caught.value)


# --- files whose header names their architecture


def _headed(path: Path, **metadata: str) -> Path:
    save_file({"w": torch.zeros(2)}, path, metadata=metadata or None)
    return path


def test_a_header_stands_in_for_the_specification(tmp_path):
    mean, std = (0.4914, 0.1 + 0.2, 1 / 3), (0.247, 0.5, 1)
    told = _header.header("small_cnn", mean, std, "gelu")
    path = _headed(tmp_path / "a@b.safetensors", **told)
    found = spec.parse(f"file:{path}")
    assert (found.path, found.architecture, found.activation) == (path, "small_cnn", "gelu")
    assert (found.mean, found.std) == (mean, std)
    assert found.text == f"file:{path}"
    other = spec.parse(f"file:{path}?mean=0&std=1&activation=silu&pad=0&ignore=a")
    assert (other.mean, other.std, other.activation) == ((0,), (1,), "silu")
    assert (other.options, other.ignore) == ((("pad", 0),), ("a",))
    named = spec.parse(f"file:{path}@mlp?depth=1")
    assert (named.architecture, named.mean, named.activation) == ("mlp", mean, "gelu")
    plain = _headed(tmp_path / "plain.safetensors", **_header.header("mlp", (), (), "relu"))
    assert (spec.parse(f"file:{plain}").mean, spec.parse(f"file:{plain}").std) == ((), ())


def test_a_foreign_header_tells_nothing(tmp_path):
    path = _headed(tmp_path / "w.safetensors", format="pt", mean="[0.4, 0.4]")
    assert spec.parse(f"file:{path}@mlp").mean == ()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "has no header that names its architecture; valid: file:PATH@ARCH"),
        ({"format": "pt"}, "has no header that names its architecture"),
        ({"architecture": "smal_cnn"}, "did you mean 'small_cnn'"),
        ({"architecture": "mlp", "mean": "half"}, "the file's header: 'half' is not a number"),
        ({"architecture": "mlp", "mean": "0.5"}, "mean has 1 numbers and std 0"),
        ({"architecture": "mlp", "activation": "tanh"}, "header: unknown activation 'tanh'"),
    ],
)
def test_a_header_that_does_not_help_is_explained(tmp_path, metadata, message):
    path = _headed(tmp_path / "w.safetensors", **metadata)
    with pytest.raises(spec.SpecError, match=message) as caught:
        spec.parse(f"file:{path}")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 8 + b"{}",
        (2**40).to_bytes(8, "little") + b"{}",
        (9).to_bytes(8, "little") + b'{"a": 1}',
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"\xff\xff",
        (20).to_bytes(8, "little") + b'{"__metadata__": 12}',
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        b"hello, this is no checkpoint",
    ],
)
def test_a_damaged_header_is_none(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(spec.SpecError, match="has no header that names its architecture"):
        spec.parse(f"file:{tmp_path}/w.safetensors")
    assert spec.parse(f"file:{tmp_path}/w.safetensors@mlp").architecture == "mlp"


def test_a_file_with_a_header_that_is_not_there(tmp_path):
    with pytest.raises(spec.SpecError, match=r"gone\.safetensors' does not exist"):
        spec.parse(f"file:{tmp_path}/gone.safetensors")


def test_plan_and_models_know_the_same_activations():
    assert all(activation_layer(name)() is not None for name in _settings.ACTIVATIONS)
    with pytest.raises(ModelError, match=f"valid: {', '.join(_settings.ACTIVATIONS)}$"):
        activation_layer("tanh")


def test_specs_and_defaults_are_read_without_torch():
    code = (
        "import sys; from benchmark.models import spec; from benchmark.datasets import defaults as d; "
        "spec.options('small_cnn'); spec._header.read(spec.Path('no.safetensors')); "
        "d.defaults('digits'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- checkpoints


class _Harm:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("harm-was-done",)


def _try(path: Path, architecture: str = "mlp?hidden=4", **shape: int) -> Normalised:
    shape = {"channels": 1, "classes": 3, "size": 4} | shape
    return load(spec.parse(f"file:{path}@{architecture}"), **shape).model


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return make("mlp", 1, 4, 3, hidden=4, seed=5).net.state_dict()


WRAPPINGS = {
    "plain": lambda w: w,
    "state_dict": lambda w: {"state_dict": w, "epoch": 3},
    "list of one": lambda w: {"state_dict": [w]},
    "model": lambda w: {"model": w},
    "module.": lambda w: {"net": {f"module.{name}": value for name, value in w.items()}},
    "module.model.": lambda w: {f"module.model.{name}": value for name, value in w.items()},
    "half": lambda w: {name: value.half() for name, value in w.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_usual_wrappers_are_taken_off(tmp_path, weights, wrapping):
    torch.save(WRAPPINGS[wrapping](weights), tmp_path / "w.pt")
    model = _try(tmp_path / "w.pt")
    assert not model.training
    x = torch.rand(3, 1, 4, 4)
    plain = make("mlp", 1, 4, 3, hidden=4, seed=5).net
    torch.testing.assert_close(model(x), plain(x), atol=1e-2 if wrapping == "half" else 0, rtol=0)


def test_key_ignore_normalisation_and_safetensors(tmp_path, weights):
    unused = {"x.deepz_lambda": torch.ones(2), "sub_block1.0.weight": torch.ones(1)}
    save_file(weights | unused, tmp_path / "w.safetensors")
    torch.save({"stages": [{}, weights]}, tmp_path / "w.pt")
    x = torch.rand(3, 1, 4, 4)
    first = _try(
        tmp_path / "w.safetensors", "mlp?hidden=4&ignore=deepz_lambda,sub_block1&mean=0.5&std=0.25"
    )
    second = _try(tmp_path / "w.pt", "mlp?hidden=4&key=stages.1")
    assert torch.allclose(first(x), second((x - 0.5) / 0.25), atol=1e-6)


def test_a_file_that_names_its_architecture_loads_alone(tmp_path):
    net = make("small_cnn", 1, 8, 3, activation="gelu", seed=5).net
    told = _header.header("small_cnn", (0.5,), (0.25,), "gelu")
    save_file(net.state_dict(), tmp_path / "w.safetensors", metadata=told)
    shape = {"channels": 1, "classes": 3, "size": 8}
    model = load(spec.parse(f"file:{tmp_path}/w.safetensors"), **shape).model
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(model(x), net.eval()((x - 0.5) / 0.25))


def test_sha256_is_that_of_the_file(tmp_path, weights):
    import hashlib

    torch.save(weights, tmp_path / "w.pt")
    found = load(spec.parse(f"file:{tmp_path}/w.pt@mlp?hidden=4"), channels=1, classes=3, size=4)
    assert found.sha256 == hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest()


def _bad_files(folder: Path, weights: dict[str, torch.Tensor]) -> dict[str, str]:
    """File name -> what the error must say."""
    (folder / "empty.pt").touch()
    (folder / "page.pt").write_text("<!DOCTYPE html><html><title>Sign in</title></html>")
    (folder / "lfs.pt").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    (folder / "text.pt").write_text("hello, this is no checkpoint")
    (folder / "text.safetensors").write_text("hello, this is no checkpoint")
    (folder / "harm.pt").write_bytes(pickle.dumps({"state_dict": _Harm()}, protocol=2))
    (folder / "harm_4.pt").write_bytes(pickle.dumps({"state_dict": _Harm()}, protocol=4))
    torch.save({"state_dict": _Harm()}, folder / "harm_zip.pt")
    torch.save(weights, folder / "zip_4.pt", pickle_protocol=4)
    torch.save(nn.Linear(2, 2), folder / "module.pt")
    torch.save(weights, folder / "whole.pt")
    torch.save(weights, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(weights, folder / "whole.safetensors")
    for name in ("whole.pt", "old.pt", "whole.safetensors"):
        content = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(content[: len(content) * 2 // 3])
    numbers = weights["1.weight"].numpy().tobytes()
    whole = (folder / "whole.pt").read_bytes()
    assert whole.count(numbers) == 1
    (folder / "zeros.pt").write_bytes(whole.replace(numbers, bytes(len(numbers))))
    itself: dict[str, object] = {}
    itself["model"] = itself
    contents = {
        "itself.pt": itself,
        "integer.pt": {0: torch.zeros(1)},
        "shape.pt": weights | {"1.weight": torch.zeros(4, 17)},
        "missing.pt": {name: value for name, value in weights.items() if name != "3.bias"},
        "extra.pt": weights | {"4.weight": torch.zeros(1)},
        "nan.pt": weights | {"3.bias": torch.tensor([0.0, float("nan"), 0.0])},
        "number.pt": weights | {"3.bias": 1.0},
        "stages.pt": {"state_dict": [weights, weights]},
        "tensor.pt": torch.zeros(3),
        "nothing.pt": {},
    }
    for name, content in contents.items():
        torch.save(content, folder / name)
    return {
        "empty.pt": "empty",
        "itself.pt": "too deeply",
        "integer.pt": "misses .* has in excess 0",
        "page.pt": "web page",
        "lfs.pt": "Git LFS pointer",
        "text.pt": "not a checkpoint",
        "text.safetensors": "not a safetensors file",
        "harm.pt": r"would run code \(\w+\.mkdir\)",
        "harm_4.pt": "refused: loading a pickle of protocol 4 or later may run code",
        "zip_4.pt": "refused: loading a pickle of protocol 4 or later",
        "harm_zip.pt": r"would run code \(\w+\.mkdir\)",
        "module.pt": "would run code .*Linear",
        "cut_whole.pt": "truncated or damaged",
        "cut_old.pt": "truncated|damaged",
        "zeros.pt": r"damaged \(the checksum of whole/data/\d is another one\)",
        "cut_whole.safetensors": "truncated or damaged",
        "shape.pt": r"1.weight has shape \(4, 17\) in the file, \(4, 16\) in mlp",
        "missing.pt": "misses 3.bias",
        "extra.pt": "has in excess 4.weight",
        "nan.pt": "3.bias holds NaN",
        "number.pt": "'3.bias' is a float, not a tensor",
        "stages.pt": "list of 2; name one with key=",
        "tensor.pt": "no parameters by name but a Tensor",
        "nothing.pt": "holds no parameters",
    }


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, message in _bad_files(tmp_path, weights).items():
        with pytest.raises(ModelError, match=message) as caught:
            _try(tmp_path / name)
        assert "\n" not in str(caught.value), name
        assert name in str(caught.value)
    assert not (tmp_path / "harm-was-done").exists()


def test_a_file_that_has_gone_or_a_key_that_is_not_there(tmp_path, weights):
    torch.save({"a": [weights]}, tmp_path / "w.pt")
    parsed = spec.parse(f"file:{tmp_path}/w.pt@mlp?hidden=4&key=a.1")
    with pytest.raises(ModelError, match=r"key=a.1: there is no '1' at 'a', which is a list of 1"):
        load(parsed, channels=1, classes=3, size=4)
    with pytest.raises(ModelError, match="mean has 2 numbers, the images have 1 channels"):
        _try(tmp_path / "w.pt", "mlp?hidden=4&key=a.0&mean=1,1&std=1,1")
    (tmp_path / "w.pt").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load(parsed, channels=1, classes=3, size=4)


SDP = "Verified-Intelligence-alpha-beta-CROWN"
PUBLISHED = [
    ("mnist", f"{SDP}/mnist_cnn_a_adv.model@small_cnn", 96.33),
    (
        "mnist",
        "eth-sri-colt/mnist_0.1_convmed_flat_2_2_100.pt@colt_convmed?mean=0.1307&std=0.3081&ignore=deepz_lambda",
        99.16,
    ),
    ("cifar10", f"{SDP}/resnet2b.pth@resnet2b?mean=0.4914,0.4822,0.4465&std=0.2470,0.2435,0.2616", 69.24),
    (
        "cifar10",
        f"{SDP}/cifar_cnn_a_adv.model@small_cnn?mean=125.3/255,123.0/255,113.9/255&std=63.0/255,62.1/255,66.7/255",
        65.65,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "text", "accuracy"), PUBLISHED)
def test_published_weights_reach_their_accuracy(shared_data, dataset, text, accuracy):
    data = load_data(dataset, shared_data / "datasets")
    found = load(
        spec.parse(f"file:{shared_data}/checkpoints/{text}"),
        channels=data.shape[0],
        classes=len(data.classes),
        size=data.shape[2],
    )
    measured = (predict(found.model, data.test.x) == data.test.y).float().mean().item() * 100
    assert measured == pytest.approx(accuracy, abs=0.1)


def test_resnet50_is_torchvisions():
    """Its weights fit, and give what torchvision's own module gives."""
    theirs = vision.torchvision().models.resnet50(weights=None, num_classes=7).eval()
    ours = build(
        "resnet50", channels=3, classes=7, size=64, mean=[0.0] * 3, std=[1.0] * 3, seed=0
    ).eval()  # fmt: skip
    ours.net.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
