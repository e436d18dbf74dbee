"""A Ray cluster of two nodes on this machine: the same records as without it, also if one node is lost."""

import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import suite
from benchmark.executors import Job, chosen, cluster
from benchmark.executors.cluster import ClusterError, ClusterGone
from benchmark.measuring.place import Place
from benchmark.planner import plan
from benchmark.running.run import run

TINY = """
name = "tiny"
dataset = "digits"
limit = 20
train_limit = 120
recipe.epochs = 1
gallery.images = 2
trainer = [{ name = "standard" }, { name = "own.py" }, { name = "own.py", share = 0.5 }]

[[metric]]
name = "clean_accuracy"

[[metric]]
name = "roar"
percents = [50]
retrains = 2
"""
OWN = '''"""A user's method."""
import fcntl
import time
from pathlib import Path

from torch.nn import functional as F

from trainers.base import from_loss


@from_loss
def own(model, x, y, step, *, share: float = 1.0):
    """Cross-entropy, once a file is there.

    Formula: share CE
    """
    with open(f"held-{share}", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        while not Path("go").exists():
            time.sleep(0.02)
    return share * F.cross_entropy(model(x), y)
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


def started(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark.cli", "run", "--suite", "tiny.toml", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until_held(process, count):
    """So many of the user's trainings are at it; they hold until the file `go` is there, or their worker is dead."""
    while sum(map(is_held, Path().glob("held-*"))) != count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def is_held(path):
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_lost_node_costs_its_jobs_only_and_the_records_are_the_same(here):
    pytest.importorskip("ray", reason='Ray is not installed: pip install "bridgebench[ray]"')
    from ray.cluster_utils import Cluster

    (here / "go").touch()
    made = plan(suite.read("tiny.toml"))
    place = Place(here / "alone", None, "cpu")
    run(made, place, 1, begin=lambda jobs: lambda outcome: None, words="bench run")
    (here / "go").unlink()

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 2})
    try:
        other = nodes.add_node(num_cpus=1)
        process = started("--out", "spread", "--executor", "ray", "--address", nodes.address)
        wait_until_held(process, 2)  # one a node
        nodes.remove_node(other, allow_graceful=False)
        wait_until_held(process, 1)
        (here / "go").touch()
        out, rest = process.communicate(timeout=300)
        assert process.returncode == 0, rest
        gpus_are_given_out(nodes.address, here)
    finally:
        nodes.shutdown()
    log = (here / "spread/log.txt").read_text()
    assert "12 jobs on 2 worker(s)" in log
    assert log.count("its worker died; it was given out again") == 1
    assert (here / "spread/records.csv").read_bytes() == (here / "alone/records.csv").read_bytes()
    assert "raylet" not in out


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_signal_stops_a_run_on_ray_in_order(here):
    pytest.importorskip("ray", reason='Ray is not installed: pip install "bridgebench[ray]"')
    process = started("--out", "stopped", "--executor", "ray", "--workers", "1")
    wait_until_held(process, 1)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 4, said
    assert "continue with the same command: bench run --suite tiny.toml --out stopped" in said
    assert "Traceback" not in said
    assert out == ""
    assert not (here / "stopped/running").exists()
    assert len(list((here / "stopped/store/models").iterdir())) == 1


def test_a_run_that_has_lost_all_nodes_says_so_once_and_ends(monkeypatch, capsys):
    ray = SimpleNamespace(
        remote=lambda **asked: lambda function: SimpleNamespace(remote=None),
        cluster_resources=dict, shutdown=lambda: None,
    )  # fmt: skip
    monkeypatch.setattr(cluster, "_ray", lambda: ray)
    monkeypatch.setattr(cluster, "_SECONDS", 0.0)
    with pytest.raises(
        ClusterGone, match=r"has a CPU since .* continue with the same command"
    ) as e:
        list(cluster.execute([Job("a", "", int, ())], 2, "cpu"))
    assert e.value.status == 1
    assert capsys.readouterr().err.count("no node of the Ray cluster has a CPU any more") == 1
