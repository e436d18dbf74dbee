"""The authors' own code of fast adversarial training on MNIST, run on a CPU: networks to measure beside ours.

    git clone https://github.com/locuslab/fast_adversarial
    python tests/peers/fast_adversarial.py fast_adversarial --data DATA --out DIR [--seeds 0,1,2]
    bench run --suite mnist_fast --scale authors --data DATA --model 'file:DIR/authors_0.pth@small_cnn' ...

Their train_mnist.py runs as it is, with its defaults: FGSM with a random start at Linf 0.3, Adam, ten epochs on all
60,000 images. Only what it asks of a GPU stays on the CPU. A few minutes per seed on one core; a file that is there is
not trained again.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import vision


def train(script: Path, data: Path, seed: int, target: Path) -> None:
    """Run their script for a seed; its weights come to `target` when they are the last epoch's."""
    with TemporaryDirectory() as folder:
        work = Path(folder, "MNIST")
        work.mkdir()
        Path(folder, "mnist-data").symlink_to(data.resolve())  # where the script looks for it
        sys.argv = [str(script), "--seed", str(seed), "--fname", "trained.pth"]
        before = Path.cwd()
        os.chdir(work)
        try:
            runpy.run_path(str(script), run_name="__main__")
        finally:
            os.chdir(before)
        target.write_bytes((work / "trained.pth").read_bytes())


def on_cpu() -> None:
    """`.cuda()` leaves tensors and networks where they are."""

    def stay(self: Any) -> Any:
        return self

    for kind in (Tensor, nn.Module):
        kind.cuda = stay  # type: ignore[method-assign]


def main() -> None:
    """Train for each seed, and print what `bench run` takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("clone", type=Path, help="folder of locuslab/fast_adversarial")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--seeds", default="0,1,2")
    chosen = parser.parse_args()
    script = (chosen.clone / "MNIST" / "train_mnist.py").resolve()
    if not script.is_file():
        parser.error(f"{script} is not there: clone https://github.com/locuslab/fast_adversarial")
    chosen.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(script.parent))  # it imports its network
    vision.torchvision()  # mended, where it cannot be imported beside a torch without CUDA
    torch.set_num_threads(1)
    on_cpu()
    for seed in map(int, chosen.seeds.split(",")):
        target = chosen.out.resolve() / f"authors_{seed}.pth"
        if not target.exists():
            train(script, chosen.data, seed, target)
        print(f"--model 'file:{target}@small_cnn'", flush=True)


if __name__ == "__main__":
    main()
