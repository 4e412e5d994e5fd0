# The front door. `make demo` and `make test` need Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test check figures format viewer clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     archive → dataset → model → report → scores, on a small archive made on the spot"
	@echo "make demo ARCHIVE=folder LABELS=labels.csv    the same on your own scans"
	@echo "make test     the whole test suite"
	@echo "make check    ruff, pyright, the architecture test"
	@echo "make viewer   the web page from its sources in viewer/ (needs node)"
	@echo "make figures NAME=image    (or timeline, molecules, serving) the figures this project is judged by, value beside bar"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "medray needs Python 3.11 or newer; set PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (several minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	@$(BIN)/medray demo $(if $(ARCHIVE),--archive "$(ARCHIVE)") $(if $(LABELS),--labels "$(LABELS)") $(if $(OUTPUT),--output "$(OUTPUT)")

test: $(READY)
	@$(BIN)/python -m pytest $(if $(TESTS),$(TESTS),tests) --cov --cov-report=term:skip-covered

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/python -m pytest -q tests/test_architecture.py

figures: $(READY)
	@test -n "$(NAME)" || { echo "say which: make figures NAME=image"; exit 2; }
	@$(BIN)/python -m benchmarks.figures $(NAME) $(if $(ONLY),--only "$(ONLY)")

format: $(READY)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

viewer:
	@cd viewer && npm ci --no-audit --no-fund && npm run --silent check && npm run --silent build

clean:
	rm -rf runs figures .pytest_cache .ruff_cache
