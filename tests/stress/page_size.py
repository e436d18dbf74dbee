"""How large and how quick is the page of a large run?  python tests/stress/page_size.py [MODELS SEEDS MEASURES IMAGES]

Draws a run of random numbers (50 models, 3 seeds, 40 measures, 200 images unless told), writes its report, and opens
the page in headless Chromium (with Playwright), where one is installed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.report.page.build import page
from benchmark.report.read import read
from benchmark.report.tables.chosen import EVERYTHING
from benchmark.report.tables.table import table
from benchmark.report.write import write

FAMILIES = ("robustness", "fidelity", "manifold", "sharpness", "stability")
ATTACKS = ["FGSM", "PGD-20", "AutoAttack", ""]


def written(folder: Path, models: int, seeds: int, measures: int, images: int) -> None:
    """A run folder of random numbers."""
    rng = np.random.default_rng(0)
    records, samples, verdicts = [], [], []
    for model in range(models):
        for seed in range(seeds):
            who = {
                "dataset": "digits",
                "model": "mlp",
                "trainer": f"method_{model} (Linf 0.1)",
                "seed": seed,
            }
            for m in range(measures):
                family = FAMILIES[m * len(FAMILIES) // measures]
                threat = "Linf 0.1" if family == "robustness" and m else ""
                name = "clean_accuracy" if m == 0 else f"measure_{m}"
                what = {
                    "metric": name,
                    "params": "",
                    "threat": threat,
                    "measure": "score",
                    "at": np.nan,
                }
                scores = (rng.random(images) < 0.3 + model / models / 2).astype(float)
                facts = {
                    "train_threat": "Linf 0.1",
                    "family": family,
                    "label": f"Measure {m}",
                    "note": "",
                }
                mean = scores.mean()
                numbers = {
                    "value": mean,
                    "low": mean - 0.03,
                    "high": mean + 0.03,
                    "stderr": 0.01,
                    "n": images,
                }
                card = {
                    "direction": "higher",
                    "range": "0..1",
                    "headline": True,
                    "reconstruction": False,
                }
                records.append({**who, **what, **facts, **numbers, **card, "key": "0"})
                each = {
                    "image": np.arange(images),
                    "label": np.arange(images) % 10,
                    "value": scores,
                    "refit": 0,
                }
                samples.append(pd.DataFrame({**who, **what, **each}))
            broken = rng.choice(ATTACKS, images)
            each = {
                "image": np.arange(images),
                "label": np.arange(images) % 10,
                "clean_correct": True,
            }
            verdicts.append(
                pd.DataFrame({**who, "threat": "Linf 0.1", **each, "broken_by": broken})
            )
    pd.DataFrame(records).to_parquet(folder / "records.parquet")
    pd.concat(samples).to_parquet(folder / "samples.parquet")
    pd.concat(verdicts).to_parquet(folder / "verdicts.parquet")


def timed(call: Any) -> tuple[float, Any]:
    """Seconds of processor time of a call, and what it gave."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def in_chromium(path: Path) -> dict[str, float]:
    """Milliseconds, measured in the page itself."""
    from playwright.sync_api import sync_playwright

    known = ("chromium", "chromium-browser", "google-chrome")
    executable = next((found for name in known if (found := shutil.which(name))), None)
    act = "(act) => { const t = performance.now(); act(); document.body.offsetHeight; return performance.now() - t; }"
    acts = {
        "sort by a column": "() => document.querySelectorAll('.heads button')[3].click()",
        "filter by a word": "() => { const f = document.querySelector('[name=text]'); f.value = 'method_1';"
        " f.dispatchEvent(new Event('input', {bubbles: true})); }",
        "show all again": "() => { const f = document.querySelector('[name=text]'); f.value = '';"
        " f.dispatchEvent(new Event('input', {bubbles: true})); }",
        "choose an axis": "() => { const s = document.querySelector('[data-axes] [name=x]'); s.value = '9';"
        " s.dispatchEvent(new Event('input', {bubbles: true})); }",
        "put a family away": "() => document.querySelector('[name=family]').click()",
    }
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        ready = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
        found = {"open until it can be used": float(tab.evaluate(ready))}
        for name, what in acts.items():
            found[name] = float(tab.evaluate(f"() => ({act})({what})"))
        browser.close()
    return found


def main() -> None:
    """Print what a page of this size takes."""
    given = [int(word) for word in sys.argv[1:]]
    sizes = given if len(given) == 4 else [50, 3, 40, 200]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        written(folder, *sizes)
        print(f"{sizes[0]} models, {sizes[1]} seeds, {sizes[2]} measures, {sizes[3]} images")
        run = read(folder)
        seconds, every = timed(lambda: [table(run, "all", EVERYTHING)])
        print(f"table of all measures: {seconds:.1f} s")
        seconds, text = timed(lambda: page(run, every, []))
        print(f"page without plots: {seconds:.1f} s, {len(text.encode()) / 1e6:.2f} MB")
        seconds, files = timed(lambda: write(folder))
        index = next(path for path in files if path.name == "index.html")
        print(f"whole report: {seconds:.1f} s, page with plots {index.stat().st_size / 1e6:.2f} MB")
        try:
            for name, milliseconds in in_chromium(index).items():
                print(f"in Chromium, {name}: {milliseconds:.0f} ms")
        except Exception as error:
            print(f"not opened: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
