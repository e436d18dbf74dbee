"""The report as one HTML file: what stands in it, and what a browser makes of it."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from benchmark.report.page.board import board
from benchmark.report.page.build import Drawing, page
from benchmark.report.page.dossier import dossiers
from benchmark.report.page.provenance import cited, provenance
from benchmark.report.page.verdict_matrix import verdict_matrix
from benchmark.report.read import Run, read, tidy
from benchmark.report.tables.table import Table, table
from benchmark.storage.rows import Record

NASTY = (
    "file:models/<script>alert('x')</script>&amp;\"quoted\"_%_é中^α/theirs & _ours_%.pt@small_cnn"
)
LONG = "long_" + "x" * 190 + "_end"
MODELS = {
    ("small_cnn", "standard"): 0.1,
    ("small_cnn", "pgd_at (Linf 0.1)"): 0.6,
    ("small_cnn", "pgd_at (L2 1.0)"): 0.5,
    ("small_cnn", "sagr"): 0.4,
    ("small_cnn", LONG): 0.2,
    (NASTY, "pretrained"): 0.3,
}
IMAGES = 12
REASON = "diverged & <stopped>, as the loss rose from the third epoch on and never came back to where it had begun"


def records(dataset: str) -> pd.DataFrame:
    """Accuracy, robustness (the models' own), a fidelity that falls with it below that of blurred maps, a sharpness
    that only some models have."""
    rows = []
    for (model, trainer), robust in MODELS.items():
        for seed in (0,) if trainer == "pretrained" else (0, 1):
            usual = {
                "dataset": dataset, "model": model, "trainer": trainer, "train_threat": "", "seed": seed,
                "params": "", "at": math.nan, "stderr": 0.01, "n": 300, "direction": "higher",
                "range": "0..1", "headline": True, "reconstruction": trainer == "sagr", "key": "0", "note": "",
            }  # fmt: skip
            for family, metric, label, threat, measure, value, more in (
                ("robustness", "clean_accuracy", "Clean", "", "accuracy", 1 - robust / 3, {}),
                ("robustness", "auto_attack", "AutoAttack", "Linf 0.1", "robust_accuracy", robust, {}),
                ("fidelity", "roar", "ROAR gradient", "", "score", 0.3 - robust / 2, {"range": "unbounded"}),
                ("fidelity", "roar", "ROAR gradient", "", "blurred_score", 0.1, {"headline": False, "direction": ""}),
                ("sharpness", "entropy", "Entropy", "", "entropy", robust ** 2, {"direction": "lower"}),
            ):  # fmt: skip
                value = math.nan if metric == "entropy" and trainer == LONG else value + 0.01 * seed
                own = {"family": family, "metric": metric, "label": label, "threat": threat}
                ends = {"value": value, "low": value - 0.02, "high": value + 0.02}
                note = {"note": REASON} if math.isnan(value) else {}
                rows.append(
                    asdict(Record(**{**usual, **own, "measure": measure, **ends, **more, **note}))
                )  # type: ignore[arg-type]
    return pd.DataFrame(rows)


def verdicts(dataset: str) -> pd.DataFrame:
    """Image i of model m falls to PGD where i is below 2 m, to AutoAttack at 2 m; the last is wrong unattacked."""
    rows = []
    for m, (model, trainer) in enumerate(MODELS):
        for i in range(IMAGES):
            facts = {
                "dataset": dataset,
                "model": model,
                "trainer": trainer,
                "seed": 0,
                "threat": "Linf 0.1",
            }
            broken = "PGD-20" if i < 2 * m else "AutoAttack" if i == 2 * m else ""
            wrong = i == IMAGES - 1
            rows.append(
                facts
                | {
                    "image": 100 + i,
                    "label": i % 10,
                    "clean_correct": not wrong,
                    "norm": 0.1,
                    "margin": 0.0,
                }
                | {"broken_by": "" if wrong else broken}
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two data sets with names that want to break out."""
    folder = tmp_path_factory.mktemp("run")
    names = ("digits", "folder:<b>Äpfel</b>")
    pd.concat(map(records, names)).to_parquet(folder / "records.parquet")
    pd.concat(map(verdicts, names)).to_parquet(folder / "verdicts.parquet")
    kept = {
        "seed": 0,
        "epochs": 2,
        "kept": 1,
        "loss": 0.1,
        "validation": math.nan,
        "work": 1,
        "seconds": 2,
    }
    who = {"dataset": "digits", "model": "small_cnn", "trainer": "standard"}
    pd.DataFrame([who | kept]).to_csv(folder / "trainings.csv", index=False)
    (folder / "gallery").mkdir()
    images = {"ids": np.arange(100, 100 + IMAGES), "labels": np.arange(IMAGES) % 10}
    images["thumbnails"] = np.random.default_rng(0).integers(0, 255, (IMAGES, 1, 8, 8), np.uint8)
    save_file(images, folder / "gallery" / "images.safetensors")
    (folder / "gallery" / "thumbnails.json").write_text(
        json.dumps({"digits": "images.safetensors"})
    )
    once = {"command": "bench run --suite '</script>'", "versions": {"torch": "2"}, "done": 9}
    manifest = {"suite": "a<b>&c", "invocations": [once], "weights": {NASTY: "f00d"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return read(folder)


@pytest.fixture(scope="module")
def tables(run: Run) -> list[Table]:
    """The tables that the page shows."""
    return [table(part, "all", ("*",)) for part in run.by_dataset().values()]


@pytest.fixture(scope="module")
def html(run: Run, tables: list[Table]) -> str:
    """The page, with a plot of one pixel."""
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
        "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
    )
    drawings = [Drawing("digits", "tradeoff-digits", "A plot <of> models.", pixel)]
    return page(run, tables, drawings, "@misc{a, title={</pre><script>}}")


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a name."""
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_refers_to_nothing_outside_and_names_add_no_element(html: str) -> None:
    elements = Elements(html)
    scripts = elements.of("script")
    assert [each.get("type") for each in scripts] == ["application/json"] * 2 + [None]
    assert not any("src" in each for each in scripts)
    assert "<b>Äpfel" not in html
    given = [pair for _, attributes in elements.found for pair in attributes.items()]
    links = {str(value) for key, value in given if key in ("src", "href", "action")}
    assert {re.sub(r"^(data:|#).*", r"\1", link) for link in links} == {
        *("data:", "#", "tradeoff-digits.pdf")
    }
    assert not [key for key, _ in given if key == "style" or key.startswith("on")]
    assert "url(" not in html[html.index("<style>") : html.index("</style>")]


def test_the_policy_lets_in_what_the_page_holds_and_nothing_else(html: str) -> None:
    policy = next(e["content"] for e in Elements(html).of("meta") if e.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_same_run_gives_the_same_page(run: Run, tables: list[Table]) -> None:
    assert page(run, tables, []) == page(run, tables, [])


def test_pictures_and_controls_have_names(html: str) -> None:
    elements = Elements(html)
    assert all(each.get("alt") for each in elements.of("img"))
    assert all(each.get("scope") for each in elements.of("th"))
    assert html.count("<label>") >= len(elements.of("select")) + len(elements.of("input"))
    assert {each.get("lang") for each in elements.of("html")} == {"en"}


def test_an_empty_run_has_a_page() -> None:
    text = page(Run(records("digits").iloc[:0]), [], [])
    assert "No records in this run yet." in text


def test_a_commit_with_changes_says_what_its_plus_is() -> None:
    said = [
        dict(provenance({"invocations": [{"commit": commit}]})[0].facts)["Commit"]
        for commit in ("f00d", "f00d+")
    ]
    assert said == ["f00d", "f00d+ (+: with changes that were not committed)"]


@pytest.mark.parametrize(
    "manifest", [{}, {"invocations": "?", "data": None, "weights": 3, "seconds": []}]
)
def test_a_manifest_of_any_kind_will_do(run: Run, manifest: dict[str, Any]) -> None:
    part = Run(run.by_dataset()["digits"].records, manifest)
    assert "standard" in page(part, [table(part, "all", ("*",))], [])


def test_a_card_says_what_speaks_against_a_model_and_what_its_origin_states() -> None:
    own = records("cifar10")
    theirs = own[own["trainer"] == "pretrained"].assign(
        model="robustbench:cifar10/Linf/Wong2020Fast"
    )
    found = theirs.iloc[:1].assign(
        metric="preflight", family="preflight", label="Preflight", measure="logits", value=0.5,
        headline=False, note="saturated: divide <them> by a temperature",
    )  # fmt: skip
    part = Run(tidy(pd.concat([own, theirs, found])))
    whole = table(part, "all", ("*",))
    sagr, stated = (
        next(
            d
            for d in dossiers(part, board(whole, part.records, 0))
            if d.line.row.name.startswith(name)
        )
        for name in ("sagr", "Wong2020Fast")
    )
    assert dict(sagr.facts)["Reconstruction"].startswith("The paper is closed access")
    facts = dict(stated.facts)
    assert facts["Licence"] == "MIT"
    assert "Fast is better than free" in facts["Paper"]
    assert [(line.what, line.published) for line in stated.published] == [("clean", 83.34)]
    assert [(f.check, f.level, f.code) for f in stated.findings] == [
        ("logits", "WARN", "saturated")
    ]
    text = page(part, [whole], [])
    assert "divide &lt;them&gt; by a temperature" in text
    assert "83.34" in text


def test_the_kind_of_a_training_is_its_method_whatever_its_label() -> None:
    labels = {"standard": "awp on trades (Linf 0.1)", "sagr": "gaussian noise 0.1"}
    part = Run(tidy(records("digits").replace({"trainer": labels})))
    made = board(table(part, "all", ("*",)), part.records, 0)
    assert made.kinds == ["awp", "pgd_at", "gaussian_noise", LONG, "third party"]
    assert {each.name for each in cited(part.records)} >= {"awp", "gaussian_noise", "pgd_at"}


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_text_stands_out_from_its_ground_in_light_and_dark() -> None:
    style = (Path(__file__).parent.parent / "benchmark/report/page/page.css").read_text("utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split("}", 2)[:2])  # fmt: skip
    assert set(dark) == set(light)
    pairs = [
        (ink, ground) for ink in ("ink", "muted", "accent", "best") for ground in ("paper", "sheet")
    ]
    pairs += [(level, f"{level}-soft") for level in ("pass", "warn", "fail")]
    pairs += [("ink", f"a{i}") for i in range(7)] + [("ink", "accent-soft"), ("ink", "wrong")]
    for colours in (light, dark):
        for ink, ground in pairs:
            bright, dim = sorted((luminance(colours[ink]), luminance(colours[ground])))[::-1]
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (ink, ground, colours[ink])


# ---------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: the system's, or the one that Playwright brought."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright is installed")
    known = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in known if (found := shutil.which(name))), None)
    with api.sync_playwright() as driver:
        try:
            found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium to open the page in: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def file(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page at a width; at the end nothing was asked for and nothing went wrong in it."""
    contexts, asked, wrong = [], [], []

    def open_it(width: int = 1440, **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **more)
        contexts.append(context)
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("dialog", lambda dialog: wrong.append(dialog.message))
        tab.goto(file.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        return tab

    yield open_it
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()] * len(contexts)
    assert wrong == []


def shown_names(tab: Any) -> list[str]:
    """The models of the first leaderboard from top to bottom."""
    return [
        row.text_content()
        for row in tab.locator("#panel-0 .board tbody tr:not([hidden]) th a").all()
    ]


def head(tab: Any, label: str) -> Any:
    """The heading of a column of the first leaderboard."""
    return tab.locator("#panel-0 .heads th", has_text=label)


def test_names_and_numbers_are_those_of_the_table(opened: Any, tables: list[Table]) -> None:
    tab = opened()
    assert shown_names(tab)[0] == "standard"
    assert tab.locator("#panel-0 .board tbody th.name").all_inner_texts()[3] == "sagr†"
    assert LONG in shown_names(tab)
    assert tab.locator("h1").text_content() == "a<b>&c"
    for row, line in zip(
        tables[0].rows, tab.locator("#panel-0 .board tbody tr").all(), strict=True
    ):
        assert (
            line.locator("a").text_content().replace("ℓ∞", "Linf").replace("ℓ₂", "L2") == row.name
        )
        assert [" ".join(td.inner_text().split()) for td in line.locator("td").all()] == [
            f"{cell.shown}{cell.signs}" + f" ± {cell.reach}" * bool(cell.reach)
            for cell in row.cells
        ]
    card = tab.locator("#panel-0 details.card").nth(5)
    card.locator("summary").click()
    assert NASTY in card.inner_text()
    assert "f00d" in card.inner_text()


def test_images_name_their_class_where_the_manifest_does(run: Run) -> None:
    part = run.by_dataset()["digits"]
    made = board(table(part, "all", ("*",)), part.records, 0)
    assert verdict_matrix(part, made)["images"][7] == (107, "7")  # type: ignore[index]
    told = replace(
        part, manifest={"data": {"digits": {"classes": [f"kind {i}" for i in range(10)]}}}
    )
    assert verdict_matrix(told, made)["images"][7] == (107, "kind 7")  # type: ignore[index]


def test_a_heading_sorts_by_click_and_by_key(opened: Any, tables: list[Table]) -> None:
    tab = opened()
    usual = shown_names(tab)
    robust = head(tab, "AutoAttack")
    robust.locator("button").click()
    assert robust.get_attribute("aria-sort") == "descending"
    assert shown_names(tab)[:3] == ["pgd_at (ℓ∞ 0.1)", "pgd_at (ℓ₂ 1.0)", "sagr"]
    robust.locator("button").press("Enter")
    assert robust.get_attribute("aria-sort") == "ascending"
    assert shown_names(tab)[0] == "standard"
    # lower is better: the best first means ascending, and who has no value is last either way
    sharp = head(tab, "Entropy")
    sharp.locator("button").click()
    assert sharp.get_attribute("aria-sort") == "ascending"
    assert robust.get_attribute("aria-sort") is None
    assert (shown_names(tab)[0], shown_names(tab)[-1]) == ("standard", LONG)
    sharp.locator("button").click()
    assert (shown_names(tab)[0], shown_names(tab)[-1]) == ("pgd_at (ℓ∞ 0.1)", LONG)
    sharp.locator("button").click()
    assert shown_names(tab) == usual


def test_controls_stay_below_the_models_and_are_told_in_the_cards(
    opened: Any, tables: list[Table]
) -> None:
    tab = opened()
    (control,) = tables[0].controls
    below = tab.locator("#panel-0 .board tfoot tr")
    assert below.locator("th").all_inner_texts() == ["control: blurred"]
    roar = [column.label for column in tables[0].columns].index("ROAR gradient")
    assert below.locator("td").nth(roar).inner_text() == control.cells[roar].shown
    marked = {row.name for row in tables[0].rows if row.cells[roar].unbeaten}
    assert "pgd_at (Linf 0.1)" in marked
    assert "standard" not in marked
    assert tab.locator("#panel-0 td[data-unbeaten]").count() == len(marked)
    tab.get_by_label("fidelity").first.uncheck()
    assert not below.locator("td").nth(roar).is_visible()
    said = {1: "not significantly better than blurred 0.1", 0: "better than blurred 0.1"}
    for card, text in said.items():
        shown = tab.locator("#panel-0 details.card").nth(card)
        shown.locator("summary").click()
        shown.get_by_text(f"Controls: {text}").wait_for()


def test_filters_reach_the_board_the_plot_the_images_and_the_cards(opened: Any) -> None:
    tab = opened()
    form = tab.locator("#panel-0 [data-filter]")
    form.locator("[name=text]").fill("PGD linf")
    assert shown_names(tab) == ["pgd_at (ℓ∞ 0.1)"]
    assert form.locator("output").inner_text() == "1 of 6 models"
    assert tab.locator("#panel-0 .point").count() == 1
    assert tab.locator("#panel-0 .matrix tbody tr").count() == 1
    assert tab.locator("#panel-0 details.card:visible").count() == 1
    form.locator("[name=text]").fill("")
    for name, value, count in (("kind", "pgd_at", 2), ("origin", "third", 1), ("dagger", "yes", 1)):
        form.locator(f"[name={name}]").select_option(value)
        assert len(shown_names(tab)) == count
        form.locator(f"[name={name}]").select_option("")
    form.locator("[name=text]").fill("nothing of the kind")
    assert tab.locator("#panel-0 [data-plot]").inner_text().startswith("No model")


def test_columns_are_put_away_by_family(opened: Any) -> None:
    tab = opened()
    tab.get_by_label("fidelity").first.uncheck()
    assert not head(tab, "ROAR").is_visible()
    assert head(tab, "AutoAttack").is_visible()
    widths = [
        row.locator("td:visible").count() for row in tab.locator("#panel-0 .board tbody tr").all()
    ]
    assert set(widths) == {3}


def test_pointing_at_a_model_names_it_with_its_numbers(opened: Any, tables: list[Table]) -> None:
    tab = opened()
    point = tab.locator("#panel-0 .point").nth(1)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    tip = tab.locator("#tip")
    assert tip.is_visible()
    text = tip.inner_text()
    robust = tables[0].rows[1].cells[1]
    assert text.startswith("pgd_at (ℓ∞ 0.1)")
    assert f"{robust.shown}% ({100 * robust.low:.1f}% to {100 * robust.high:.1f}%)" in text
    assert "300 images, 2 seeds" in text
    assert tab.locator("#panel-0 tr.lit th a").text_content() == "pgd_at (ℓ∞ 0.1)"
    tab.mouse.move(5, 5)
    assert not tip.is_visible()


def test_any_two_measures_can_be_chosen(opened: Any) -> None:
    tab = opened()
    svg, form = tab.locator("#panel-0 .plot > svg"), tab.locator("#panel-0 [data-axes]")
    assert svg.get_attribute("aria-label") == "ROAR gradient against AutoAttack ℓ∞ 0.1, 6 models"
    # the most robust explains worst: all are on the front that beat their control
    assert front_corners(tab) == 3
    form.locator("[name=x]").select_option("3")
    assert svg.get_attribute("aria-label") == "ROAR gradient against Entropy, 5 models"
    # standard is best in both, where less entropy is better
    assert front_corners(tab) == 1
    form.locator("[name=front]").uncheck()
    assert tab.locator("#panel-0 .front").count() == 0
    form.locator("[name=c]").select_option("")
    legend = tab.locator("#panel-0 .plot .legend").inner_text()
    assert "third party" in legend
    form.locator("[name=bars]").uncheck()
    assert tab.locator("#panel-0 .bar").count() == 0


def test_points_that_do_not_beat_their_controls_are_hollow_beside_what_these_scored(
    opened: Any, tables: list[Table]
) -> None:
    tab = opened()
    plot, form = tab.locator("#panel-0 .plot"), tab.locator("#panel-0 [data-axes]")
    roar = [column.label for column in tables[0].columns].index("ROAR gradient")
    marked = [i for i, row in enumerate(tables[0].rows) if row.cells[roar].unbeaten]
    hollow = plot.locator(".point.hollow")
    assert sorted(int(p.get_attribute("data-row")) for p in hollow.all()) == marked
    # every model's blurred maps score the same, but for the third party's with its one seed
    assert plot.locator("> svg .control.blurred.band").count() == 1
    legend = plot.locator(".legend").inner_text()
    assert "not seen to beat its controls" in legend
    assert "control: blurred (range)" in legend
    hollow.first.focus()
    assert "not significantly better than blurred" in tab.locator("#tip").inner_text()
    form.locator("[name=y]").select_option("0")
    assert hollow.count() == plot.locator(".control").count() == 0
    form.locator("[name=x]").select_option(str(roar))
    assert hollow.count() == len(marked)


def front_corners(tab: Any) -> int:
    """Models on the Pareto front, as it is drawn."""
    path = tab.locator("#panel-0 .front").get_attribute("d")
    return len(re.findall("H", path))


def test_the_plot_can_be_walked_by_keys(opened: Any) -> None:
    tab = opened()
    tab.locator("#panel-0 .point[tabindex='0']").focus()
    seen = []
    for _ in range(6):
        seen.append(tab.evaluate("document.activeElement.getAttribute('aria-label')"))
        tab.keyboard.press("ArrowRight")
    assert len(set(seen)) == 6
    assert seen[0].startswith("standard: ROAR gradient 0.25")
    assert tab.locator("#tip").is_visible()
    tab.keyboard.press("Enter")
    assert tab.locator("#panel-0 details.card[open]").count() == 1
    assert "95%" not in tab.locator("#panel-0 details.card[open] .measures").inner_text()


def test_what_broke_what(opened: Any) -> None:
    tab = opened()
    row = tab.locator("#panel-0 .matrix tbody tr").nth(2)
    assert "".join(row.locator("td:not(.share)").all_inner_texts()) == "AAAAB······×".replace(
        "AAAAB", "BBBBA"
    )
    assert row.locator(".share").inner_text() == f"6/{IMAGES}"
    form = tab.locator("#panel-0 [data-images]")
    form.locator("[name=which]").select_option("fallen")
    assert form.locator("output").inner_text() == f"2 of {IMAGES} images"
    form.locator("[name=which]").select_option("")
    form.locator("[name=attack]").select_option(label="PGD-20")
    assert form.locator("output").inner_text() == f"10 of {IMAGES} images"
    assert tab.locator("#panel-0 .thumb").count() == 10
    assert tab.locator("#panel-1 .thumb").count() == 0


def test_data_sets_are_tabs(opened: Any) -> None:
    tab = opened()
    assert [tab.locator(f"#panel-{i}").is_visible() for i in (0, 1)] == [True, False]
    tab.locator("#tab-0").press("ArrowRight")
    assert [tab.locator(f"#panel-{i}").is_visible() for i in (0, 1)] == [False, True]
    assert tab.locator("#tab-1").get_attribute("aria-selected") == "true"
    assert tab.locator("#tab-1").inner_text() == "folder:<b>Äpfel</b>"
    assert tab.locator("#panel-1 .point").count() == 6


def test_a_training_that_kept_its_last_epoch_has_no_validation(opened: Any) -> None:
    tab = opened()
    tab.locator("#panel-0 details.card summary").first.click()
    cells = tab.locator("#panel-0 details.card[open] .small td").all_inner_texts()
    assert cells == ["2", "2", "0.1", "–", "1.00", "2.0"]


def test_the_page_fits_the_screen(opened: Any) -> None:
    tab = opened(color_scheme="dark")
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for width in (360, 390, 768, 1440):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_without_a_script_the_numbers_are_there(opened: Any, browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert tab.locator(".board:visible").count() == 2
    context.close()
