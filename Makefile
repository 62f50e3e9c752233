# The first use of any target creates .venv and installs what constraints.txt names.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint format readme clean

demo: $(READY)
	$(BIN)/prunebench run demo --jobs 2
	@echo "open reports/demo/index.html"

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

readme: $(READY)
	$(BIN)/python -m bench.report.readme README.md reports/demo

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[test]'
	touch $(READY)

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info .prunebench
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
