"""One training outside of a run, its weights kept as a safetensors file: what `bench train` does."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors.torch import save_file
from torch import nn

from benchmark.datasets.defaults import defaults
from benchmark.errors import BenchError
from benchmark.measuring.networks import normalisation
from benchmark.measuring.place import Place, dataset
from benchmark.measuring.training import fit, model_key
from benchmark.models import _header
from benchmark.models._code_spec import own_network
from benchmark.plan import Training
from benchmark.storage.atomic import write_atomically
from benchmark.storage.snapshots import FileSnapshots
from trainers.base import Diverged, OnEpoch


class TrainingFailed(BenchError):
    """A training came to no model."""

    status = 1


def train_to_file(
    training: Training,
    file: Path,
    root: Path | None,
    device: str,
    on_epoch: OnEpoch,
    say: Callable[[str], None],
) -> str:
    """Train a model, keep its weights as safetensors, and return the specification that loads it again.

    A file that is there already is never written over: if it is of this very training nothing is done, else BenchError.
    """
    assert training.recipe is not None
    with _alone(file):
        data = dataset(training.data, root)
        key = model_key(Place(file.parent, root, device), training, {})
        if file.exists():
            _check_same(file, key)
            say(f"{file} is of this very training already: nothing to do")
        else:
            snapshots = FileSnapshots(Path(f"{file}.{key[:8]}.unfinished"), key, device)
            if earlier := snapshots.load():
                say(f"continues after epoch {len(earlier['log'])}, from {snapshots.path}")
            with _errors_told(training):
                trained = fit(data, training, device, on_epoch, snapshots)
            _write(file, trained.model, training, key)
            snapshots.discard()
    # a header names no code that would be run
    own = own_network(training.recipe.architecture)
    return f"file:{file}" + (f"@{training.recipe.architecture}" if own else "")


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """The right to make a file, for one training at a time; BenchError, before any work, if it cannot be made."""
    if file.is_dir():
        raise BenchError(f"cannot write {file}: it is a folder")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass  # a folder may be there and still take no file
        lock = FileLock(f"{file}.lock", timeout=0.5)
        lock.acquire()
    except Timeout:
        raise BenchError(
            f"another bench train is making {file}; wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise BenchError(f"cannot write {file}: {error.strerror}; give another --out") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _check_same(file: Path, key: str) -> None:
    """BenchError if a file is not what this training would come to."""
    if _header.read(file).get("training") != key:
        raise BenchError(
            f"{file} is there already, and not of this training (another method, setting, seed, data set, version "
            "of the code or kind of device); move it away, or give another --out"
        )


def _write(file: Path, model: nn.Module, training: Training, key: str) -> None:
    assert training.recipe is not None
    net = {
        name.removeprefix("net."): value.cpu().contiguous()
        for name, value in model.state_dict().items()
        if name.startswith("net.")  # the normalisation stands in the header
    }
    recipe, facts = training.recipe, defaults(training.data.name)
    head = _header.header(recipe.architecture, *normalisation(facts, recipe), recipe.activation)
    write_atomically(file, lambda path: save_file(net, path, head | {"training": key}))


@contextmanager
def _errors_told(training: Training) -> Iterator[None]:
    """Errors of a training name it."""
    try:
        yield
    except Diverged as error:
        raise TrainingFailed(f"{training.label}: {error}") from None
    except ValueError as error:  # of settings that a method cannot train with
        raise BenchError(f"{training.label}: {error}") from None
    except (BenchError, OSError):
        raise
    except Exception as error:
        raise _told(training, error) from error


def _told(training: Training, error: Exception) -> TrainingFailed:
    """An error of a method's code in one line, with its place in the method's file."""
    assert training.trainer is not None
    own = training.trainer.card
    calls = traceback.extract_tb(error.__traceback__)
    at = [f" (line {c.lineno} of {own.path.name})" for c in calls if c.filename == str(own.path)]
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return TrainingFailed(f"{training.label}: {reason}{''.join(at[-1:])}")
