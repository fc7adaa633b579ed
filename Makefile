# make demo   the whole thing without an account: draw dogs, train, score, pack
# make data   fetch the competition's data through the Kaggle API and prepare it
# make kernels   a Kaggle kernel from each recipe in kernels/, without an account
# make test   the fast tests; `make test-all` the long ones too
# make bench  how fast, beside what one would use instead; alone on the machine, about three quarters of an hour
# make browser   a headless Chromium for the tests of the report, where Debian's packages can be had
# make lint   ruff and mypy
# make test-oldest   the tests with the oldest versions that setup.py promises, in .venv-oldest
# make venv   the set-up the others share: .venv with requirements.lock and the kit itself

PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
READY := .venv/.ready
# A process for each core, each with the tests of whole files; tests/conftest.py gives each one thread.
IN_PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

.PHONY: venv demo data kernels test test-all test-oldest bench browser lint clean

venv: $(READY)

$(READY): requirements.lock setup.py
	@$(PYTHON) -c 'import sys; sys.exit("the kit needs Python 3.11 or later, this is %d.%d: make PYTHON=python3.12 …" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $(READY)

# Scored on untrained features where timm's pretrained ones cannot be fetched: the number is then uncalibrated.
demo: venv
	$(BIN)/kit data --from demo --size 32
	run=$$($(BIN)/kit train --model dcgan --data data/demo --budget 4m) && \
	{ $(BIN)/kit score $$run --count 1000 2>.demo.log || { \
		echo "timm's pretrained network cannot be fetched: an untrained one is used instead" && \
		$(BIN)/kit score $$run --count 1000 --features random; }; } && rm -f .demo.log && \
	$(BIN)/kit report $$run && $(BIN)/kit pack $$run && $(BIN)/kit submit $$run --dry-run && $(BIN)/kit runs

data: venv
	$(BIN)/kit data

kernels: venv
	$(BIN)/kit kernel build $(patsubst %/kernel.toml,%,$(wildcard kernels/*/kernel.toml))

test: venv
	$(BIN)/python -m pytest -m "not slow" $(IN_PARALLEL)

test-all: venv
	$(BIN)/python -m pytest

bench: venv
	$(BIN)/python bench/run.py --write

# Where it fails, the tests of the pages skip; KIT_BROWSER=required makes them fail instead.
browser:
	@found() { command -v "$$1" >/dev/null 2>&1; }; \
	if ! { found chromium && found chromedriver; } && found apt-get && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; \
	fi; \
	if found chromedriver && { found chromium || found chromium-browser || found google-chrome || found chrome; }; then \
		chromedriver --version; \
	else \
		echo "no Chromium with its chromedriver on the path: install both (as root, on Debian: apt-get install chromium chromium-driver)" >&2; exit 1; \
	fi

# Torch 2.10 and timm 1.0.27 are what Kaggle's image has; the rest is what setup.py names.
test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -e . -r tests/oldest.txt
	.venv-oldest/bin/python -m pytest -m "not slow" $(IN_PARALLEL)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis
