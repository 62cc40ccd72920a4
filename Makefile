# `make` lists the targets. Nothing is needed but Python 3.11 (or 3.12) and make.
PYTHON ?= python3.11
CONFIG ?= configs/complete_journey.yaml
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run report test test-slow lint format lock images clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  knobs: CONFIG=$(CONFIG) PYTHON=$(PYTHON) ARGS='--set training.epochs=3'"
	@echo "         REPOSITORY=REGION-docker.pkg.dev/PROJECT/NAME PUSH=1 TARGETS='prep train-cuda embed index'"

install: $(INSTALLED) ## Make the virtual environment from requirements.lock

run: $(INSTALLED) ## Run the whole DAG for CONFIG; fetches its data set first
	@$(BIN)/two-tower data $(notdir $(basename $(CONFIG)))
	@$(BIN)/two-tower run $(CONFIG) $(ARGS)

report: $(INSTALLED) ## Show the newest run: steps, figures, verdict, where its report is
	@$(BIN)/two-tower runs show latest

# The tests' two workers share two cores; the long files are not left for the end, when one worker would idle.
test test-slow: export OMP_NUM_THREADS := 1
test test-slow: export TF_NUM_INTRAOP_THREADS := 1

test: $(INSTALLED) ## Run all tests but the slow ones, a run of the DAG included
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

test-slow: $(INSTALLED) ## Run the slow tests: kills, planted faults, variants
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

lint: $(INSTALLED) ## Check style, types and the arrows between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python -m two_tower.config.reference --check docs/configuration.md

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: RESOLVE := --universal --python-version 3.11 --index-strategy unsafe-best-match --no-emit-index-url --no-emit-find-links
lock: $(INSTALLED) ## Resolve pyproject.toml anew into requirements.lock (Python 3.11 and 3.12)
	$(BIN)/uv pip compile --quiet $(RESOLVE) --all-extras pyproject.toml -o requirements.lock --custom-compile-command "make lock"
	echo "tensorflow[and-cuda]" | $(BIN)/uv pip compile --quiet $(RESOLVE) --constraint requirements.lock - \
		--no-annotate --no-header | grep ^nvidia- > requirements-cuda.lock

images: ## Build the step images with a docker engine; PUSH=1 REPOSITORY=... pushes, and writes build/images.yaml
	@sh components/images.sh

clean: ## Remove runs, artefacts, caches and the virtual environment; data/ stays
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH; name a Python 3.11 or 3.12: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else f"Python {v[0]}.{v[1]} will not do: TensorFlow, ScaNN and NumPy resolve together for 3.11 (tested) and 3.12; use make PYTHON=python3.11")'
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (two to three minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check
	@touch $@
