# Two commands do everything on a fresh machine: `make bench` runs the main job, `make test` passes the tests.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
SUITE ?= quick

.PHONY: bench test lint check format reference clean

bench: $(INSTALLED)
	$(BIN)/bench run --suite $(SUITE)
	@echo "The report: results/$(SUITE)/report/index.html (tables as .tex, .csv and .json, plots as .pdf and .png beside it)"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# the committed results that the pages show, and the tables in the pages
reference: $(INSTALLED)
	$(BIN)/bench run --suite quick --out results/reference-quick
	rm -rf results/reference/quick
	cp -r results/reference-quick results/reference/quick
	$(BIN)/python -m benchmark.running.costs results/reference/quick
	$(BIN)/python -m benchmark.report.embed $$(grep -lE '<!-- (table|order): ' README.md docs/*.md docs/papers/*.md)

clean:
	rm -rf .venv dist
