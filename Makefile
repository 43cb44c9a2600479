# Everything runs in .venv, which .ci/setup makes and updates when it is needed. See `make help`.
VIEWER ?= napari
PYTHON ?=
ARGS ?=
# Processes that share the tests, a file at a time, and keep two processors busy; WORKERS=0 runs them in one.
WORKERS ?= 3

BIN := .venv/bin
READY := .venv/ready
# A .venv that was copied from elsewhere, is broken, or has another Python than the one asked for is made anew.
USABLE := $(shell PYTHON='$(PYTHON)' .ci/setup --check 2>/dev/null && echo yes)

.DEFAULT_GOAL := help
.PHONY: help demo test soak soak-remote bench bench-remote windows windows-demo aarch64 docs lint format clean FORCE

help:  ## list the targets
	@echo 'usage: make TARGET [ARGS="…"] [VIEWER=napari] [PYTHON=python3.12]'
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

demo: $(READY)  ## show a simulated acquisition, live, in VIEWER; ARGS go to `scopecast demo`
	@$(BIN)/scopecast demo --viewer $(VIEWER) $(ARGS)

# The linters run beside the tests, and are shown below them: one run tells everything, and the exit code is of both.
test: $(READY)  ## run tests, doctests, examples and linters; ARGS go to pytest
	@status=0; lint=$$(mktemp); \
	$(MAKE) --no-print-directory lint >"$$lint" 2>&1 & \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS) || status=1; \
	wait $$! || status=1; \
	cat "$$lint"; rm -f "$$lint"; \
	exit $$status

soak: $(READY)  ## start, stop and kill producers and viewers at random for 10 minutes; ARGS="--seconds N --seed N"
	@PYTHONPATH=tests:tests/support $(BIN)/python -m soak $(ARGS)

soak-remote: $(READY)  ## watch from another machine while connections, relay and desks are killed and stopped; ARGS as for soak
	@PYTHONPATH=tests:tests/support $(BIN)/python -m soak.links $(ARGS)

bench: $(READY)  ## measure, also windows, acquisitions and other libraries; ARGS="--json FILE --quick --write-docs"
	@PYTHONPATH=tests:tests/support $(BIN)/python -m benchmarks $(ARGS)

bench-remote: $(READY)  ## measure views on another machine, over links of several rates; ARGS="--json FILE --quick --write-docs"
	@PYTHONPATH=tests:tests/support $(BIN)/python -m benchmarks.remote $(ARGS)

# Neither is part of `test`: Wine is no Windows, and qemu no ARM; they find what reading does not.
windows: $(READY)  ## run the tests of what differs on Windows in its Python, under Wine; ARGS go to pytest
	@.ci/windows test $(ARGS)

windows-demo: $(READY)  ## show frames in napari for Windows, on a virtual screen; the picture is windows-demo.png
	@.ci/windows demo $(ARGS)

aarch64: $(READY)  ## run the tests of memory and ring in a Python for aarch64, on qemu
	@.ci/aarch64 $(ARGS)

docs: $(READY)  ## take the manual's pictures and build it into docs/_build/html; ARGS go to sphinx-build
	@$(BIN)/python docs/pictures
	@$(BIN)/python -m sphinx -W --keep-going -q -b html $(ARGS) docs docs/_build/html
	@echo 'The manual: docs/_build/html/index.html'

# What hosted services read of this repository, by the schema that says how it has to be. actionlint looks deeper, where it
# is installed; its package on PyPI downloads it from elsewhere, and so it is not among the development dependencies.
SCHEMAS = citation-file-format:CITATION.cff dependabot:.github/dependabot.yml github-workflows:.github/workflows/*.yml \
	github-issue-config:.github/ISSUE_TEMPLATE/config.yml github-issue-forms:.github/ISSUE_TEMPLATE/[!c]*.yml \
	readthedocs:.readthedocs.yaml

lint: $(READY)  ## check style, types, the direction of imports, and what hosted services run
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	for system in linux darwin win32; do \
		$(BIN)/mypy --platform $$system --cache-dir .mypy_cache/$$system || status=1; \
	done; \
	$(BIN)/lint-imports || status=1; \
	for each in $(SCHEMAS); do \
		$(BIN)/check-jsonschema --quiet --builtin-schema vendor.$${each%%:*} $${each#*:} || status=1; \
	done; \
	$(BIN)/zizmor --offline --quiet . || status=1; \
	if command -v actionlint >/dev/null; then actionlint || status=1; fi; \
	exit $$status

format: $(READY)  ## format the code and sort the imports
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

clean:  ## remove what the tools leave; .venv stays
	rm -rf build dist docs/_build docs/_generated docs/_pictures .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find streaming viewers tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt .ci/setup streaming/hatch_build.py streaming/scopecast/memory/_copying.c streaming/scopecast/remote/_companding.c $(if $(USABLE),,FORCE)
	@PYTHON='$(PYTHON)' .ci/setup

FORCE:
