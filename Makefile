# The first use of any target creates .venv and installs what constraints.txt names.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Imported once at set-up, so that it is compiled also where Python is told to write no bytecode: every call, worker and
# test starts faster.
WARM := import bench.cli.app, bench.cli.run, bench.cli.plan, bench.cli.list_names, bench.cli.show, bench.runs.run_job, bench.runs.matrix, bench.runs.display, bench.report.write, torchvision, timm, \
	segmentation_models_pytorch, torchmetrics.classification, torch_pruning, sklearn.datasets, skimage.data

.PHONY: demo test speed sweep bench lint format readme docs reference clean

demo: $(READY)
	$(BIN)/prunebench run demo --jobs 2
	@echo "open reports/demo/index.html"

# Compiled modules are kept, also where Python is told to write none: the programs that tests start import thousands.
test: $(READY)
	OMP_NUM_THREADS=1 env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist worksteal -m "not speed and not sweep"

speed: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m speed

sweep: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.structure.sweep --jobs 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m sweep

bench: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

readme: $(READY)
	$(BIN)/python -m bench.report.readme README.md reports/studies/demo

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean
	@echo "open build/site/index.html"

reference: $(READY)
	$(BIN)/python -m bench.cli.reference docs

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[test]'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -W ignore -c "$(WARM)"
	touch $(READY)

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info .prunebench
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
