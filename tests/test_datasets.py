"""Every data set keeps its invariants; files that are absent, damaged or hostile are refused with a reason."""

import os
import pickle
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt  # noqa: F401  (resolves the annotations of Recipe)
from PIL import Image
from pydantic import TypeAdapter
from scipy.io import savemat

from benchmark import vision
from benchmark.cards import cards
from benchmark.datasets import _cifar
from benchmark.datasets._splits import TEST_IDS
from benchmark.datasets.base import DataError, Dataset
from benchmark.datasets.defaults import UnknownDataset, defaults, names
from benchmark.datasets.load import data_folder, load
from metrics.threat import parse
from trainers.recipe import Recipe

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_download(monkeypatch):
    monkeypatch.delenv("BENCH_DOWNLOAD", raising=False)


def check_invariants(data: Dataset) -> None:
    splits = (data.train, data.validation, data.test)
    for split in splits:
        assert split.x.dtype == torch.float32
        assert split.y.dtype == split.ids.dtype == torch.int64
        assert split.x.shape == (len(split), *data.shape)
        assert len(split) == len(split.ids) > 0
        assert split.x.min() >= 0
        assert split.x.max() <= 1
        assert split.y.min() >= 0
        assert split.y.max() < len(data.classes)
    ids = torch.cat([split.ids for split in splits])
    assert len(ids.unique()) == len(ids)


# --- names and defaults


def test_every_data_set_has_a_file_a_function_and_defaults():
    for name in names():
        assert callable(getattr(import_module(f"benchmark.datasets.{name}"), name))


@pytest.mark.parametrize("name", [*names()[:-1], "folder:somewhere"])
def test_defaults_are_valid(name):
    found = defaults(name)
    recipe = TypeAdapter(Recipe).validate_python(found.recipe)
    assert recipe.architecture in cards("models")
    assert len(found.mean) == len(found.std) == found.channels
    assert found.threats.keys() == {"Linf", "L2"}
    assert all(parse(f"{norm} {eps}").eps > 0 for norm, eps in found.threats.items())


def test_defaults_cannot_be_spoiled_by_a_caller():
    defaults("digits").recipe["lr"] = 7
    assert defaults("digits").recipe["lr"] != 7


@pytest.mark.parametrize("name", ["digits", "planted"])
def test_defaults_describe_the_data(name):
    data, known = load(name, Path()), defaults(name)
    assert data.shape == (known.channels, known.size, known.size)
    assert len(data.classes) == known.classes
    assert {part: len(getattr(data, part)) for part in known.images} == known.images
    assert data.train.x.mean().item() == pytest.approx(known.mean[0], abs=0.01)
    assert data.train.x.std().item() == pytest.approx(known.std[0], abs=0.01)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", r"unknown data set 'digit' \(did you mean 'digits'\?\); valid: "),
        ("imagenet", "unknown data set 'imagenet'; valid: .*digits, .*folder:PATH"),
        ("folder", "needs the path of its tree, as in 'folder:"),
        ("folder:", "needs the path"),
        ("digits:x", "unknown data set 'digits:x'"),
        ("_splits", "unknown"),
    ],
)
def test_unknown_names_are_explained(name, message):
    with pytest.raises(UnknownDataset, match=message):
        defaults(name)
    with pytest.raises(DataError, match=message):
        load(name)


def test_the_data_folder_is_the_named_one_or_a_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("BENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "bridgebench" / "data"


# --- data that need no files


@pytest.mark.parametrize(
    ("name", "sizes", "fingerprint"),
    [
        ("digits", (1078, 180, 539), "20e8b0d9bcfd1e79"),
        (
            "planted",
            (4000, 500, 1000),
            None,
        ),  # drawn by floating-point functions, whose last bit is the platform's
    ],
)
def test_embedded_data_sets(name, sizes, fingerprint):
    data = load(name, Path())
    check_invariants(data)
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    images = torch.cat([data.train.x, data.validation.x, data.test.x])
    assert len(images.flatten(1).unique(dim=0)) == len(images)
    again = getattr(import_module(f"benchmark.datasets.{name}"), name)(Path())
    assert again.fingerprint() == data.fingerprint() == (fingerprint or data.fingerprint())
    for split in (data.train, data.validation, data.test):
        share = split.y.bincount() / len(split)
        assert (share - 1 / len(data.classes)).abs().max() < 0.015
        assert len(split.y[:40].unique()) > 3  # not sorted by class


# --- torchvision's sets, from small files in the same layout


def _write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.tobytes())


def _mnist_files(root: Path, title: str) -> None:
    for prefix, count in (("train", 40), ("t10k", 20)):
        images = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        _write_idx(root / title / "raw" / f"{prefix}-images-idx3-ubyte", images)
        _write_idx(
            root / title / "raw" / f"{prefix}-labels-idx1-ubyte",
            np.arange(count, dtype=np.uint8) % 10,
        )


def _cifar_batch(path: Path, count: int, label: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
    path.write_bytes(
        pickle.dumps({"data": pixels, label: [i % 10 for i in range(count)]}, protocol=2)
    )


def _without_md5(monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    source = getattr(vision.torchvision().datasets, title)
    for field in ("train_list", "test_list"):
        monkeypatch.setattr(source, field, [[file, None] for file, _ in getattr(source, field)])
    monkeypatch.setattr(source, "meta", source.meta | {"md5": None})


def _cifar_files(root: Path, title: str) -> Path:
    folder, label, meta = {
        "CIFAR10": ("cifar-10-batches-py", "labels", "batches.meta"),
        "CIFAR100": ("cifar-100-python", "fine_labels", "meta"),
    }[title]
    key = "label_names" if title == "CIFAR10" else "fine_label_names"
    batches = [f"data_batch_{i}" for i in range(1, 6)] if title == "CIFAR10" else ["train"]
    for name in batches:
        _cifar_batch(root / folder / name, 20, label)
    _cifar_batch(root / folder / ("test_batch" if title == "CIFAR10" else "test"), 20, label)
    (root / folder / meta).write_bytes(pickle.dumps({key: list("abcdefghij")}, protocol=2))
    return root / folder


def _svhn_files(root: Path) -> None:
    for part, count in (("train", 40), ("test", 20)):
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        pixels = RNG.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(root / f"{part}_32x32.mat", {"X": pixels, "y": labels})


@pytest.mark.parametrize(("name", "title"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST")])
def test_idx_sets_load(tmp_path, name, title):
    _mnist_files(tmp_path, title)
    data = load(name, tmp_path)
    check_invariants(data)
    assert data.shape == (1, 28, 28)
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 20)
    raw = (tmp_path / title / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert torch.equal(
        (data.test.x * 255).round().byte().flatten(),
        torch.frombuffer(bytearray(raw), dtype=torch.uint8),
    )
    assert torch.equal(data.test.y, torch.arange(20) % 10)


@pytest.mark.parametrize(("name", "title"), [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")])
def test_cifar_sets_load(tmp_path, monkeypatch, name, title):
    _without_md5(monkeypatch, title)
    folder = _cifar_files(tmp_path, title)
    data = load(name, tmp_path)
    check_invariants(data)
    assert data.note == ""
    assert data.classes == tuple("abcdefghij")
    test = pickle.loads((folder / ("test_batch" if title == "CIFAR10" else "test")).read_bytes())
    assert np.array_equal((data.test.x * 255).round().byte().flatten(1).numpy(), test["data"])


def test_cifar10_loads_in_part_and_says_so(tmp_path, monkeypatch):
    _without_md5(monkeypatch, "CIFAR10")
    folder = _cifar_files(tmp_path, "CIFAR10")
    whole = load("cifar10", tmp_path)
    for batch in (1, 3, 4):
        (folder / f"data_batch_{batch}").unlink()
    part = _cifar.from_pickles("cifar10", "CIFAR10", tmp_path)
    check_invariants(part)
    assert part.note == "train batches 2, 5 of 5 only: 40 training images"
    assert torch.equal(part.test.ids, whole.test.ids)
    assert set(part.train.ids.tolist()) <= {*range(10_000, 10_020), *range(40_000, 40_020)}
    for batch in (2, 5):
        (folder / f"data_batch_{batch}").unlink()
    with pytest.raises(DataError, match="no cifar-10-batches-py/data_batch_1 in"):
        _cifar.from_pickles("cifar10", "CIFAR10", tmp_path)


def test_cifar_files_are_held_to_their_md5(tmp_path):
    _cifar_files(tmp_path, "CIFAR10")
    with pytest.raises(
        DataError, match=r"data_batch_1 is damaged or another file: md5 \w+, expected c99cafc152"
    ):
        load("cifar10", tmp_path)


class _Harm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder / "harm-was-done"),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    _without_md5(monkeypatch, "CIFAR10")
    folder = _cifar_files(tmp_path, "CIFAR10")
    objects = np.array([_Harm(tmp_path)], dtype=object)
    for content, message in (
        ({"data": _Harm(tmp_path)}, r"refused: the pickle would run \w+\.mkdir"),
        ({"data": objects}, "refused: an array of 'O8'"),
        ([1, 2], "holds a list, a CIFAR batch is a dict"),
        ({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}, "does not hold n x 3072 pixels"),
    ):
        (folder / "data_batch_1").write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(DataError, match=message):
            load("cifar10", tmp_path)
    (folder / "data_batch_1").write_bytes((folder / "test_batch").read_bytes()[:1000])
    with pytest.raises(DataError, match="is not a readable pickle"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "harm-was-done").exists()


def test_svhn_loads(tmp_path, monkeypatch):
    source = vision.torchvision().datasets.SVHN
    without = {part: [url, file, None] for part, (url, file, _) in source.split_list.items()}
    _svhn_files(tmp_path)
    with pytest.raises(DataError, match=r"train_32x32.mat is damaged or another file"):
        load("svhn", tmp_path)
    monkeypatch.setattr(source, "split_list", without)
    data = load("svhn", tmp_path)
    check_invariants(data)
    assert data.test.y[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    (tmp_path / "test_32x32.mat").write_bytes(b"MATLAB 5.0 not really")
    with pytest.raises(DataError, match=r"test_32x32.mat cannot be read"):
        import_module("benchmark.datasets.svhn").svhn(tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashionmnist", "cifar10", "cifar100", "svhn"])
def test_absent_files_are_named_with_the_place_and_the_remedy(tmp_path, name):
    with pytest.raises(
        DataError, match=f"^{name}: no .* in {tmp_path}; BENCH_DOWNLOAD=1 has bench download it"
    ):
        load(name, tmp_path)


def test_a_cut_idx_file_is_refused(tmp_path):
    _mnist_files(tmp_path, "MNIST")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"mnist: the files in .*MNIST cannot be read"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn"])
def test_torchvision_downloads_only_when_asked(tmp_path, monkeypatch, name):
    asked = []

    class Stop(Exception):
        pass

    def download(self: object) -> None:
        asked.append(type(self).__name__)
        raise Stop

    for title in ("MNIST", "CIFAR10", "SVHN"):
        monkeypatch.setattr(getattr(vision.torchvision().datasets, title), "download", download)
    with pytest.raises(DataError, match="BENCH_DOWNLOAD"):
        load(name, tmp_path)
    assert not asked
    monkeypatch.setenv("BENCH_DOWNLOAD", "1")
    with pytest.raises((DataError, Stop)):
        load(name, tmp_path)
    assert asked == [name.upper()]


def test_the_real_files_load(shared_data):
    mnist = load("mnist", shared_data / "datasets")
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (55_000, 5_000, 10_000)
    assert (*defaults("mnist").images.values(),) == (55_000, 5_000, 10_000)
    assert mnist.test.y.bincount().tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    with warnings.catch_warnings(record=True) as caught:
        cifar = load("cifar10", shared_data / "datasets")
    assert not caught
    assert cifar.note == "train batch 1 of 5 only: 10,000 training images"
    assert (len(cifar.train), len(cifar.validation), len(cifar.test)) == (9_000, 1_000, 10_000)
    assert cifar.classes[:3] == ("airplane", "automobile", "bird")
    assert len(cifar.classes) == 10
    check_invariants(cifar)


# --- trees of pictures


def _pictures(
    root: Path,
    parts: dict[str, int],
    sizes: tuple[tuple[int, int], ...] = ((12, 12),),
    classes: tuple[str, ...] = ("cat", "dog"),
) -> Path:
    """`parts`: part -> pictures a class."""
    for part, count in parts.items():
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                width, height = sizes[i % len(sizes)]
                pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
            (root / part / name / "notes.txt").write_text("no picture")
    return root


def test_a_tree_loads_at_its_own_size_in_a_fixed_order(tmp_path):
    root = _pictures(tmp_path / "tree", {"train": 10, "test": 3})
    data = load(f"folder:{root}")
    check_invariants(data)
    assert data.shape == (3, 12, 12)
    assert data.classes == ("cat", "dog")
    assert data.name == f"folder:{root}"
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 6)
    assert not torch.equal(data.train.ids, data.train.ids.sort().values)
    assert (
        import_module("benchmark.datasets.folder").folder(root).fingerprint() == data.fingerprint()
    )


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ("train", "val", "test")])
def test_the_first_pictures_of_every_split_are_of_all_classes(tmp_path, parts):
    root = _pictures(tmp_path / "tree", dict.fromkeys(parts, 70), classes=("ant", "bee", "cow"))
    data = load(f"folder:{root}")
    for split in (data.train, data.validation, data.test):
        assert split.y[:20].unique().tolist() == [0, 1, 2]
    # an image keeps its identity: its place by class and name
    assert torch.equal(data.test.ids.sort().values, TEST_IDS + torch.arange(210))
    assert torch.equal(data.test.y, (data.test.ids - TEST_IDS) // 70)


def test_a_tree_of_different_sizes_is_cropped_and_resized(tmp_path):
    root = _pictures(tmp_path / "tree", {"train": 2, "val": 1, "test": 1}, ((30, 20), (16, 300)))
    Image.new("L", (5, 5), 255).save(root / "train" / "cat" / "z.JPG", format="JPEG")
    data = load(f"folder:{root}")
    check_invariants(data)
    assert data.shape == (3, 224, 224)
    assert (len(data.train), len(data.validation), len(data.test)) == (5, 2, 2)
    assert (data.train.x[data.train.ids == 2] == 1).all()


def test_trees_that_cannot_be_used_are_explained(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            load(f"folder:{tmp_path}")

    refused("needs train/ and test/")
    with pytest.raises(DataError, match="found: no such folder"):
        load(f"folder:{tmp_path / 'gone'}")
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    refused("train has no class folders in it")
    (tmp_path / "train" / "cat").mkdir()
    refused("differ in the classes cat")
    (tmp_path / "val" / "cat").mkdir()
    refused("train has one class, cat; a classifier needs two at least")
    for part in ("train", "val"):
        (tmp_path / part / "dog").mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / part / "dog" / "a.png")
    refused("cat has no pictures; valid: .bmp")
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "cat" / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "cat" / "a.png")
    (tmp_path / "train" / "cat" / "b.jpg").write_text("no picture")
    refused(r"b\.jpg is not a readable picture")
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / "train" / "cat" / "b.jpg")
    path = tmp_path / "train" / "cat" / "b.jpg"
    path.write_bytes(path.read_bytes()[:900])
    refused(r"b\.jpg is not a readable picture")
