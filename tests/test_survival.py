"""What a run lives through: signals, full disks, too little memory, changed inputs; and computing again."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import save_file

from benchmark import suite
from benchmark.commands.run import _without_refresh
from benchmark.datasets import load
from benchmark.errors import BenchError, Unwritable
from benchmark.measuring import place as places
from benchmark.measuring.place import Place
from benchmark.models.base import build
from benchmark.planner import plan
from benchmark.running.run import run
from benchmark.running.status import status
from benchmark.store import Store, StoreError

SUITE = """
name = "tiny"
dataset = "digits"
limit = 20
train_limit = 120
controls = false
gallery.images = 1
[recipe]
architecture = "mlp"
epochs = 1
[[trainer]]
name = "standard"
[[metric]]
name = "clean_accuracy"
[[metric]]
name = "gini"
"""

METRIC = '''
import errno, logging, os, signal, time
from pathlib import Path
import torch

def {name}(case):
    """Words.

    Measures:
        x (higher, 0..1): X.
    """
    world = Path(os.environ["WORLD"])
    {body}
    return {{"x": torch.full((len(case.y),), value)}}
'''


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder that metrics look into, and the suite beside it."""
    (tmp_path / "tiny.toml").write_text(SUITE)
    monkeypatch.setenv("WORLD", str(tmp_path))
    return tmp_path


def own(world, name, body):
    path = world / f"{name}.py"
    path.write_text(METRIC.format(name=name, body=body.replace("\n", "\n    ")))
    return str(path)


# holds until the file `open` is there; the file `began` says that it has begun
GATE = """(world / "began").touch()
while not (world / "open").exists():
    time.sleep(0.02)
value = 0.5"""
READS = 'value = float((world / "value").read_text())'


def made(world, *metrics, **changes):
    return plan(suite.changed(suite.read(str(world / "tiny.toml")), metrics=metrics, **changes))


def done(world, planned, workers=1, again=(), stop=None, folder="out"):
    """Run it here: the result, the titles of its jobs, and what it told."""
    titles, told = [], []

    def begin(jobs):
        titles.extend(job.title for job in jobs)
        return stop or (lambda outcome: None)

    result = run(
        planned, Place(world / folder, None, "cpu"), workers,
        begin=begin, words="bench run", again=again, tell=told.append,
    )  # fmt: skip
    return result, titles, told


def value(world, metric, folder="out"):
    rows = pd.read_csv(world / folder / "records.csv").query("metric == @metric and headline")
    return rows["value"].tolist()


def whole(folder):
    """Nothing half written is left, and everything in the store is what was written."""
    assert not list(folder.rglob(".writing-*"))
    assert not (folder / "running").exists()
    for path in folder.glob("store/*/*.safetensors"):
        Store(folder).info(path.parent.name, path.stem)
    return True


def test_refresh_computes_a_metric_again_and_replaces_its_rows(world):
    path = own(world, "reads", READS)
    planned = made(world, "clean_accuracy", path)
    (world / "value").write_text("0.25")
    assert len(done(world, planned)[1]) == 4
    (world / "value").write_text("0.75")
    assert done(world, planned)[1] == []
    assert value(world, "reads") == [0.25]
    _, titles, _ = done(world, planned, again=["reads"])
    assert titles == ["reads of standard, seed 0"]
    assert value(world, "reads") == [0.75]
    assert done(world, planned)[1] == []
    assert not (world / "out/stale").exists()
    assert len(done(world, planned, again=["all"])[1]) == 2
    with pytest.raises(BenchError, match=r"--refresh 'redas'.*did you mean 'reads'"):
        done(world, planned, again=["redas"])


def test_a_refresh_that_fails_keeps_the_old_result_and_is_made_up_for(world):
    planned = made(world, own(world, "reads", READS))
    (world / "value").write_text("0.25")
    done(world, planned)
    (world / "value").unlink()
    result, _, _ = done(world, planned, again=["reads"])
    assert "No such file" in result.failed[0][1]
    assert value(world, "reads") == [0.25]
    (world / "value").write_text("1.0")
    assert done(world, planned)[1] == ["reads of standard, seed 0"]
    assert value(world, "reads") == [1.0]


def test_a_refresh_that_was_interrupted_goes_on_with_the_rest(world):
    planned = made(world, own(world, "reads", READS), "gini", seeds=[0, 1])
    (world / "value").write_text("0.25")
    done(world, planned)
    (world / "value").write_text("0.75")

    def stop(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        done(world, planned, again=["reads"], stop=stop)
    # the outcome that stopped it was not noted yet, so it is computed a second time
    assert done(world, planned)[1] == ["reads of standard, seed 0", "reads of standard, seed 1"]
    assert value(world, "reads") == [0.75, 0.75]


def test_refreshing_roar_retrains(world):
    (world / "tiny.toml").write_text(
        SUITE + '[[metric]]\nname = "roar"\npercents = [50]\nretrains = 1\ncontrols = []\n'
    )
    planned = plan(suite.read(str(world / "tiny.toml")))
    done(world, planned)
    refits = world / "out/store/refits"
    before = {path.name: path.stat().st_mtime_ns for path in refits.iterdir()}
    scores = value(world, "roar")
    done(world, planned, again=["roar"])
    after = {path.name: path.stat().st_mtime_ns for path in refits.iterdir()}
    assert before.keys() == after.keys()
    assert all(after[name] > before[name] for name in before)
    assert value(world, "roar") == scores


def bench(world, *words, **options):
    # a shell that runs this in the background may have had SIGINT ignored, which children inherit
    return subprocess.Popen(
        [sys.executable, "-m", "benchmark.cli", *map(str, words)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ, "WORLD": str(world)}, **options,
    )  # fmt: skip


def wait_for(process, path, seconds=120):
    for _ in range(int(seconds / 0.02)):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"{path} did not come")


def test_a_changed_checkpoint_is_noticed_and_told(world):
    spec = f"file:{world}/theirs.safetensors@mlp"
    found = []
    for seed in (1, 2, 2):
        net = build("mlp", channels=1, classes=10, size=8, mean=(0.0,), std=(1.0,), seed=seed)
        weights = {k.removeprefix("net."): v for k, v in net.state_dict().items() if "net." in k}
        save_file(weights, world / "theirs.safetensors")
        found.append(done(world, made(world, "gini", models=[spec])))
    assert [len(titles) for _, titles, _ in found] == [5, 2, 0]
    assert found[1][1] == [f"inspect {spec}", f"Gini gradient of {spec}"]
    assert [told for _, _, told in found] == [
        [],
        [
            f"changed since an earlier command: the file or the code of {spec}; "
            "cells that are computed anew: 1"
        ],
        [],
    ]
    assert len(value(world, "gini")) == 2


def test_a_changed_data_set_is_noticed_and_told(world):
    def draw(seed):
        chance = np.random.default_rng(seed)
        for part, count in (("train", 20), ("test", 6)):
            for label in ("a", "b"):
                (world / "pictures" / part / label).mkdir(parents=True, exist_ok=True)
                for i in range(count):
                    pixels = chance.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(world / f"pictures/{part}/{label}/{i}.png")
        for cached in (load._load, places.dataset, places.prints):
            cached.cache_clear()

    def go():
        planned = made(world, "clean_accuracy", dataset=f"folder:{world}/pictures")
        return done(world, planned)

    draw(0)
    assert len(go()[1]) == 3
    assert go()[1:] == ([], [])
    draw(1)
    _, titles, told = go()
    assert len(titles) == 3
    assert told == [
        f"changed since an earlier command: the test images of folder:{world}/pictures; "
        "cells that are computed anew: 1"
    ]


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_a_signal_stops_in_order(world, number, workers):
    words = ["run", "--suite", world / "tiny.toml", "--metric", own(world, "gate", GATE)]
    words += ["--metric", "gini", "--out", world / "out", "--workers", workers]
    process = bench(world, *words)
    wait_for(process, world / "began")
    told = status(world / "out").as_json()
    if number == signal.SIGINT:  # a terminal sends it to all
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 4, said
    assert "continue with the same command: bench run" in said
    assert "Traceback" not in said
    assert printed == ""
    assert whole(world / "out")
    assert "interrupted; continue" in (world / "out/log.txt").read_text()

    assert told["run"]["pid"] == process.pid
    assert told["run"]["command"].startswith("bench run --suite")
    assert told["running"] >= 1
    assert "gate of standard, seed 0" in [job["title"] for job in told["jobs"]]
    (world / "open").touch()
    planned = made(world, str(world / "gate.py"), "gini")
    _, titles, _ = done(world, planned)
    assert "gate of standard, seed 0" in titles
    assert "train standard, seed 0" not in titles
    assert value(world, "gate") == [0.5]


def test_a_second_signal_ends_at_once(world):
    deaf = """signal.signal(signal.SIGTERM, signal.SIG_IGN)
(world / "began").touch()
time.sleep(600)
value = 0.5"""
    words = ["run", "--suite", world / "tiny.toml", "--metric", own(world, "deaf", deaf)]
    process = bench(world, *words, "--out", world / "out", "--workers", 1)
    wait_for(process, world / "began")
    process.send_signal(signal.SIGINT)
    assert "stopping; what is finished is kept" in "".join(islice(said_by(process), 20))
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 4
    assert "stopped at once" in said


def said_by(process):
    """Its lines, to the one that tells of a signal."""
    for line in process.stderr:
        yield line
        if line.startswith("stopping"):
            return


def test_a_second_run_is_told_who_has_the_folder_and_status_knows_a_killed_run(world):
    words = ["run", "--suite", world / "tiny.toml", "--metric", own(world, "gate", GATE)]
    words += ["--out", world / "out", "--workers", 1]
    process = bench(world, *words)
    wait_for(process, world / "began")
    with pytest.raises(StoreError, match=rf"another run is .*\(process {process.pid} on .*: bench"):
        done(world, made(world, "gini"))
    watching = bench(world, "status", world / "out", "--watch", "--every", 0.1, "--json")
    assert json.loads(watching.stdout.readline())["run"]["pid"] == process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    last = json.loads(watching.communicate(timeout=60)[0].splitlines()[-1])
    assert (last["run"], last["running"], last["waiting"], last["jobs"]) == (None, 0, 1, [])
    assert (world / "out/running").exists()
    assert status(world / "out").commands[0].startswith("bench run --suite")
    # the seconds of what it had done are not lost
    (world / "open").touch()
    done(world, made(world, str(world / "gate.py")))
    manifest = json.loads((world / "out/manifest.json").read_text())
    assert {name.partition("/")[0] for name in manifest["seconds"]} == {
        *("models", "inspections", "cells")
    }
    assert whole(world / "out")


def test_a_run_that_was_killed_before_its_plan_was_written_leaves_no_obstacle(world):
    (world / "out/running").mkdir(parents=True)
    (world / "out/running/run").write_text("{")
    (world / "out/stale").mkdir()
    (world / "out/.writing-x1.json").write_text('{"suite"')
    (world / "out/.writing-x2.url").touch()
    assert len(done(world, made(world, "gini"))[1]) == 3
    assert whole(world / "out")


FULL = """if (world / "full").exists():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
value = 0.5"""


def test_a_full_disk_ends_the_run_at_once_and_the_next_one_completes_it(world):
    planned = made(world, own(world, "full_", FULL), "gini", seeds=[0, 1])
    (world / "full").touch()
    with pytest.raises(Unwritable, match=r"cannot go on writing to .*No space left on device") as e:
        done(world, planned, workers=2)
    assert e.value.status == 1
    assert whole(world / "out")
    assert (world / "out/records.csv").is_file()
    (world / "full").unlink()
    result, titles, _ = done(world, planned)
    assert result.failed == ()
    # the disk was full for the cell of a model that was there; the other may still have been in training
    assert sum(title.startswith("train ") for title in titles) < 2
    assert len(value(world, "full_")) == len(value(world, "gini")) == 2


@contextmanager
def mounted(folder, *options):
    """A small disk of its own; skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    try:
        allowed = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        allowed = False
    if not allowed:
        pytest.skip("this user may not mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_small_disk_that_fills(world):
    planned = made(world, own(world, "reads", READS), "gini")
    (world / "value").write_text("0.5")
    with mounted(world / "small", "size=4m") as small:
        ballast = small / "ballast"
        done(world, made(world, "gini"), folder="small/out")
        kept = value(world, "gini", "small/out")
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(8 << 20))
        with pytest.raises(Unwritable, match="No space left on device"):
            done(world, planned, folder="small/out")
        assert value(world, "gini", "small/out") == kept
        ballast.unlink()
        result, _, _ = done(world, planned, folder="small/out")
        assert result.failed == ()
        assert value(world, "reads", "small/out") == [0.5]
        assert whole(small / "out")


def test_a_read_only_disk_is_told_and_left_alone(world):
    planned = made(world, "gini")
    with mounted(world / "disk", "size=8m") as disk:
        done(world, planned, folder="disk/out")
        words = ["mount", "-o", "remount,ro", str(disk)]
        subprocess.run(words, check=True, capture_output=True)
        for folder in ("disk/out", "disk/new"):
            with pytest.raises(StoreError, match=r"cannot write to .*Read-only file system"):
                done(world, planned, folder=folder)
        assert status(disk / "out").cells["done"] == 1


def test_a_folder_without_permission_is_told(world):
    if os.geteuid() == 0:
        pytest.skip("permissions do not hold for root")
    (world / "out").mkdir(mode=0o500)
    with pytest.raises(StoreError, match=r"cannot write to .*Permission denied"):
        done(world, made(world, "gini"))


KILLED = """if not (world / "spared").exists():
    os.kill(os.getpid(), signal.SIGKILL)
value = 0.5"""


def test_a_worker_that_is_always_killed_costs_its_own_cell_only(world):
    planned = made(world, own(world, "killed", KILLED), "gini", "clean_accuracy")
    result, _, _ = done(world, planned, workers=2)
    assert [title for title, _ in result.failed] == ["killed of standard, seed 0"]
    assert "out of memory?" in result.failed[0][1]
    assert len(value(world, "gini")) == 1
    assert whole(world / "out")
    (world / "spared").touch()
    assert done(world, planned)[1] == ["killed of standard, seed 0"]
    assert value(world, "killed") == [0.5]


def test_one_worker_is_a_process_too_and_its_death_is_told(world):
    """Of a command; the lines of the run say how often it was tried."""
    words = ["run", "--suite", world / "tiny.toml", "--metric", own(world, "killed", KILLED)]
    words += ["--metric", "gini", "--out", world / "out", "--workers", 1]
    process = bench(world, *words)
    _, said = process.communicate()
    assert process.returncode == 1, said
    assert "it killed its worker 3 times" in said
    again = "killed of standard, seed 0: its worker died; it was given out again"
    assert (world / "out/log.txt").read_text().count(again) == 2
    assert len(value(world, "gini")) == 1
    assert "it killed its worker" in status(world / "out").reasons["killed of standard, seed 0"]


TRAINER = '''
import os, signal
from pathlib import Path
from torch.nn import functional as F
from trainers.base import from_loss

@from_loss
def own(model, x, y, step):
    """Is killed in its last epoch.

    Formula: CE
    """
    world = Path(os.environ["WORLD"])
    with (world / "steps").open("a") as file:
        file.write(f"{step.progress}\\n")
    if step.progress > 0.6 and not (world / "spared").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return F.cross_entropy(model(x), y)
'''
SNAPSHOTS = """import sys
from pathlib import Path
from benchmark import suite
from benchmark.measuring.place import Place
from benchmark.planner import plan
from benchmark.running.run import run
from benchmark.storage.snapshots import FileSnapshots

FileSnapshots.__init__.__defaults__ = (0.0,)
made, place = plan(suite.read(sys.argv[1])), Place(Path(sys.argv[2]), None, "cpu")
run(made, place, 1, begin=lambda jobs: lambda outcome: None, words="bench run")
"""


def test_a_killed_run_continues_a_training_from_its_snapshot(world):
    """The run's own process is killed; snapshots are written at every end of an epoch."""
    (world / "own.py").write_text(TRAINER)
    text = SUITE.replace("epochs = 1", "epochs = 4").replace('"standard"', f'"{world}/own.py"')
    (world / "tiny.toml").write_text(text)

    def go(folder):
        (world / "steps").write_text("")
        words = [sys.executable, "-c", SNAPSHOTS, str(world / "tiny.toml"), str(world / folder)]
        status = subprocess.run(words, env={**os.environ, "WORLD": str(world)}).returncode
        return status, [float(line) for line in (world / "steps").read_text().split()]

    assert go("out")[0] == -signal.SIGKILL
    assert len(list((world / "out/store/unfinished").glob("*.snapshot"))) == 1
    (world / "spared").touch()
    assert go("out") == (0, [0.75]), "it goes on with the last epoch"
    assert go("calm") == (0, [0.0, 0.25, 0.5, 0.75])
    names = ("records.csv", "samples.parquet")
    assert all((world / "out" / n).read_bytes() == (world / "calm" / n).read_bytes() for n in names)


def test_status_names_the_command_that_asked_for_each_cell(world):
    """A failed cell may be of an earlier command than the last."""
    (world / "gone.py").write_text(METRIC.format(name="gone", body="raise ValueError"))
    suites, folder = str(world / "tiny.toml"), Place(world / "out", None, "cpu")
    begin = lambda jobs: lambda outcome: None  # noqa: E731
    for words, metrics in (
        ("one", [str(world / "gone.py")]),
        ("two", ["gini"]),
        ("three", ["entropy"]),
    ):
        planned = plan(suite.changed(suite.read(suites), metrics=metrics))
        run(planned, folder, 1, begin=begin, words=words)
    assert status(world / "out").commands == ("one",)
    done(world, made(world, own(world, "reads", READS)))
    assert status(world / "out").commands == ("bench run", "one")


HUNGRY = """from metrics.batching import in_batches
def room(x):
    if len(x) > 6:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    return x.flatten(1).sum(1)
for _ in range(3):
    in_batches(room, case.x)
value = 0.5"""


def test_too_little_memory_is_told_once_and_the_cell_is_done(world):
    _, _, told = done(world, made(world, own(world, "hungry", HUNGRY)))
    head = "hungry of standard, seed 0: out of memory: goes on with batches of "
    assert told == [f"{head}10 rows", f"{head}5 rows"]
    assert value(world, "hungry") == [0.5]


def test_a_training_without_memory_says_what_to_change(world):
    (world / "greedy.py").write_text(
        "import torch\nfrom trainers.base import from_loss\n\n@from_loss\n"
        'def greedy(model, x, y, step, *, size: float = 1.0):\n    """Greedy."""\n'
        '    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")\n'
    )
    base = suite.changed(
        suite.read(str(world / "tiny.toml")), trainers=[str(world / "greedy.py")], metrics=["gini"]
    )
    result, _, _ = done(world, plan(base))
    reason = result.failed[0][1]
    assert reason.startswith("out of memory: batches are part of a recipe")
    assert "set a smaller batch_size in it" in reason
    assert "2 GiB" in reason


def test_quiet_shows_findings_and_the_last_line_only_and_the_log_has_all(world):
    words = ["run", "--suite", world / "tiny.toml", "--out", world / "out", "--workers", 1]
    process = bench(world, *words, "--quiet")
    printed, said = process.communicate()
    assert process.returncode == 0, said
    assert printed == ""
    *findings, last = said.splitlines()
    assert last == f"4 jobs done, 0 failed. See {world}/out/report"
    assert all(line.startswith("preflight WARN") for line in findings)
    log = (world / "out/log.txt").read_text().splitlines()
    assert "bench run --suite" in log[0]
    assert "train standard, seed 0" in log[2]
    assert "100%" in log[-2 - len(findings)]
    assert all(line[:4].isdigit() and line[10] == "T" for line in log)
    assert log[-1].endswith(last)


def test_quiet_shows_a_failure_once(world):
    path = own(world, "reads", READS)
    words = ["run", "--suite", world / "tiny.toml", "--out", world / "out", "--workers", 1]
    process = bench(world, *words, "--metric", path, "--quiet")
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.count("No such file") == 1
    assert said.splitlines()[-1].startswith("4 jobs done, 1 failed.")


def test_errno_of_a_broken_disk_is_known():
    from benchmark.errors import storage_ended

    assert storage_ended(OSError(errno.ENOSPC, "x"))
    assert not storage_ended(OSError(errno.ENOENT, "x"))


def test_the_command_that_continues_leaves_refresh_out():
    words = ["bench", "run", "--refresh", "roar", "--out", "refresh", "--refresh=all", "-q"]
    assert _without_refresh(words) == ["bench", "run", "--out", "refresh", "-q"]
