"""A Ray cluster of two nodes on this machine: the same records as without it, also if one node is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import suite
from benchmark.executors import Job, chosen
from benchmark.executors.cluster import ClusterError
from benchmark.measuring.place import Place
from benchmark.plan import plan
from benchmark.running.run import run

TINY = """
name = "tiny"
dataset = "digits"
limit = 20
train_limit = 120
recipe.epochs = 1
gallery.images = 2
trainer = [{ name = "standard" }, { name = "own.py" }]

[[metric]]
name = "clean_accuracy"

[[metric]]
name = "roar"
percents = [50]
retrains = 2
"""
OWN = '''"""A user's method."""
from torch.nn import functional as F

from trainers.base import from_loss


@from_loss
def own(model, x, y, step):
    """Cross-entropy.

    Formula: CE
    """
    return F.cross_entropy(model(x), y)
'''


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r'pip install "bridgebench\[ray\]"'):
        chosen("ray", address=None, workers=None, device="cpu")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a suite and a user's trainer, named by relative paths."""
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gpus_are_given_out(address, folder):
    """Each job has one of its own (Ray only counts them)."""
    # the nodes cannot import from this folder, but builtins they have
    code = (Path(__file__).parent / "workers/deeds.py").read_text()
    code += f"\nown_gpu(Path({str(folder / 'gpus')!r}), 2)"
    execute, slots = chosen("ray", address=address, workers=None, device="cuda")
    assert slots == 2
    jobs = [Job(name, "", exec, (code, {})) for name in "ab"]
    assert [outcome.error for outcome in execute(jobs, slots, "cuda")] == [None, None]
    assert sorted((folder / "gpus").read_text().split()) == ["0", "1"]


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_lost_node_costs_its_jobs_only_and_the_records_are_the_same(here):
    pytest.importorskip("ray", reason='Ray is not installed: pip install "bridgebench[ray]"')
    from ray.cluster_utils import Cluster

    made = plan(suite.read("tiny.toml"))
    place = Place(here / "alone", None, "cpu")
    run(made, place, 1, begin=lambda jobs: lambda outcome: None, words="bench run")

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 2})
    try:
        other = cluster.add_node(num_cpus=1)
        words = ["run", "--suite", "tiny.toml", "--out", "spread", "--executor", "ray"]
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.cli", *words, "--address", cluster.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = [process.stderr.readline() for _ in range(5)]
        assert any("jobs on 2 worker(s)" in line for line in said), said
        cluster.remove_node(other, allow_graceful=False)
        out, rest = process.communicate(timeout=300)
        assert process.returncode == 0, rest
        gpus_are_given_out(cluster.address, here)
    finally:
        cluster.shutdown()
    assert (here / "spread/records.csv").read_bytes() == (here / "alone/records.csv").read_bytes()
    assert "raylet" not in out
