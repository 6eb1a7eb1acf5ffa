# The desk: every command a person needs. `make` alone lists them.
#
#   CONFIG=configs/….yaml   what `make train` trains
#   BENCH="speed atari"    which of benchmarks/ `make bench` runs
#   ARGS="--key value"      passed on to the command behind train, test, learn and bench
#   PYTHON=python3.12       the interpreter to build the environment from (else the first of 3.11 to 3.13 found)
#   CONSTRAINTS=            install the newest releases that pyproject.toml admits instead of the pinned ones
#   PIP_ARGS="…"            passed on to pip, e.g. an index that has PyTorch's CPU build

VENV ?= .venv
CONFIG ?= configs/cartpole_ppo.yaml
BENCH ?= speed atari replay board board_training workers workers_growth
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
ROOMS := agents configs envs networks scripts training

# Debian packages behind the tests marked `external`; each gives a command of the same name, but recorded words and
# verses, which are files. Debian puts game engines into /usr/games, which is not on every PATH. The emoji come by npm.
EMOJI := emoji-datasource-twitter
EMOJI_PREFIX := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/triathlon
HAS_EMOJI := $(wildcard $(EMOJI_PREFIX)/node_modules/$(EMOJI)/emoji.json)
SYSTEM_PACKAGES := stockfish fairy-stockfish gnugo espeak-ng flite
MISSING_PACKAGES := $(strip $(foreach package,$(SYSTEM_PACKAGES),\
    $(shell PATH="$$PATH:/usr/games"; command -v $(package) >/dev/null || echo $(package)))\
    $(if $(wildcard /usr/share/asterisk/sounds/en_US_f_Allison/digits),,asterisk-core-sounds-en-wav)\
    $(foreach package,sword-text-web sword-text-sparv,$(if $(wildcard /usr/share/doc/$(package)),,$(package)))\
    $(if $(HAS_EMOJI),,$(shell command -v npm >/dev/null || echo npm)))
MISSING := $(strip $(MISSING_PACKAGES) $(if $(HAS_EMOJI),,$(EMOJI)))

# pygame draws to memory: no display is needed.
export SDL_VIDEODRIVER ?= dummy
export PYGAME_HIDE_SUPPORT_PROMPT := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help train test lint format type learn bench docs system-deps clean moved

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

train: $(VENV)/.run  ## train an agent (CartPole by PPO, or CONFIG=…), ending with its score and video
	@$(BIN)/triathlon train $(CONFIG) $(ARGS)

test: $(VENV)/.dev  ## the tests, without the learning tests (make learn)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadgroup \
	    -m "not slow and not cluster$(if $(MISSING), and not external)" $(ARGS) || [ $$? -eq 5 ]
	@# Ray clusters start only on a machine that is not busy; 5: ARGS chose none of the tests.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m "cluster and not slow" $(ARGS) || [ $$? -eq 5 ]
ifneq ($(MISSING),)
	@echo "Left out: the tests marked external, which need $(MISSING). 'make system-deps' installs it."
endif

lint: $(VENV)/.dev  ## style (ruff) and the import rule between the rooms (import-linter)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(VENV)/.dev  ## let ruff repair what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

type: $(VENV)/.dev .links  ## types (mypy)
	@$(BIN)/mypy .links/triathlon tests benchmarks

learn: $(VENV)/.dev  ## the learning tests, minutes each: what every configuration reaches, as a table
	@$(BIN)/python benchmarks/learn.py $(ARGS)

bench: $(VENV)/.dev  ## speed beside other libraries in the same run; BENCH=atari is one part (see benchmarks/)
	@for script in $(BENCH:%=benchmarks/%.py); do $(BIN)/python $$script $(ARGS) || exit; done

docs: $(VENV)/.dev .links  ## the pages, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "site/index.html"

system-deps:  ## Debian packages, and pictures by npm, that tests marked external need
ifeq ($(MISSING),)
	@echo "Nothing is missing."
endif
ifneq ($(MISSING_PACKAGES),)
	apt-get update && apt-get install --yes --no-install-recommends $(MISSING_PACKAGES)
endif
ifeq ($(HAS_EMOJI),)
	npm install --no-audit --no-fund --prefix $(EMOJI_PREFIX) $(EMOJI)@16.0.0
endif

clean:  ## remove the environment, caches and built files (runs/ stays)
	rm -rf $(VENV) .links build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Type checkers and documentation tools cannot see the package-dir mapping of pyproject.toml: they read the rooms through
# links under their installed names. Nothing at run time depends on them.
.links: Makefile
	@rm -rf .links && mkdir -p .links/triathlon
	@for room in $(ROOMS); do ln -s ../../$$room .links/triathlon/$$room; done

# The environment. A stamp says what is in it: .run what training needs, .dev everything. While pip works, .unfinished
# holds the process that runs it: found later without that process, it means half an environment, which is made anew.
# .home says where the environment was made: it holds absolute paths, so it does not survive a move of the folder.
ifneq ($(shell cat $(VENV)/.home 2>/dev/null),$(if $(wildcard $(VENV)/.home),$(CURDIR)))
$(VENV)/.run $(VENV)/.dev: moved
endif

$(VENV)/.run: pyproject.toml $(CONSTRAINTS)
	$(call install,classic)
	@touch $(VENV)/.run

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS)
	$(call install,dev)
	@touch $(VENV)/.run $(VENV)/.dev

define install
@set -e; \
if [ -e $(VENV)/.unfinished ]; then \
    if ps -o args= -p "$$(cat $(VENV)/.unfinished)" 2>/dev/null | grep -q unfinished; then \
        echo "Another make is installing into $(VENV): wait for it and try again." >&2; exit 1; \
    fi; \
    echo "The last installation was interrupted: starting again."; rm -rf $(VENV); \
elif [ -e $(VENV)/.home ] && [ "$$(cat $(VENV)/.home)" != "$(CURDIR)" ]; then \
    echo "This folder was moved: making its environment anew."; rm -rf $(VENV); \
fi; \
if [ ! -x $(BIN)/python ]; then \
    for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3); do \
        "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break; python=; \
    done; \
    if [ -z "$$python" ]; then \
        echo "Triathlon needs Python 3.11, 3.12 or 3.13: $(or $(PYTHON),nothing on the PATH) is not one. Name yours: make PYTHON=/path/to/python" >&2; exit 1; \
    fi; \
    if ! "$$python" -c 'import ensurepip' 2>/dev/null; then \
        echo "$$python cannot make virtual environments: install its venv package (Debian: apt-get install python3-venv)." >&2; exit 1; \
    fi; \
    mkdir -p $(VENV); echo $$$$ > $(VENV)/.unfinished; \
    "$$python" -m venv $(VENV); \
fi; \
echo $$$$ > $(VENV)/.unfinished; \
echo "Installing what is needed into $(VENV) (once)."; \
[ -t 1 ] || quiet=--quiet; \
$(BIN)/python -m pip install $$quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) \
    $(PIP_ARGS) --editable '.[$(1)]'; \
printf %s "$(CURDIR)" > $(VENV)/.home; rm $(VENV)/.unfinished
endef
