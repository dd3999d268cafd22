# Every target sets up what it needs; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
BASE_PYTHON ?= $(shell command -v python3.11 || command -v python3)
# On a machine without an accelerator the CPU wheels of torch save gigabytes: give the address of
# PyTorch's CPU index, make setup TORCH_INDEX=ADDRESS.
TORCH_INDEX ?=

# MODEL=folder-or-id DATA=folder[,folder] measure a model of yours beside the miniature ones;
# SAMPLES, DEVICE and PRECISION say how; OWN=models.yaml takes several (the book says how).
# ARCHITECTURE=file.toml names the modules of a decoder with other names than usual.
# SMALL=1 and FULL=1 choose how many samples each cache holds (workflow/config.yaml says how many).
SIZE := $(if $(SMALL),small,$(if $(FULL),full,standard))
# nproc alone would count the threads that OMP_NUM_THREADS allows.
JOBS ?= $(shell env -u OMP_NUM_THREADS nproc)
ifdef ARCHITECTURE
export IMA_ARCHITECTURE := $(abspath $(ARCHITECTURE))
endif
# Seconds that guided fuzzing spends on each reader.
FUZZ_SECONDS ?= 30
# Compiled modules are kept: without them every test process compiles the tests again.
unexport PYTHONDONTWRITEBYTECODE
# One thread per job: JOBS jobs run side by side. No lock: one left by a killed build would stop
# the next, and the caches have locks of their own.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
# It says what runs, what is reused and why, and the time left; with other arguments than a dry
# run's, Snakemake says it in its own words. Bars of jobs side by side would write over each other.
REPORT := $(if $(filter-out --dry-run -n,$(ARGS)),,--logger ima)
SNAKEMAKE := $(ONE_THREAD) TQDM_DISABLE=1 PYTHONPATH=workflow/plugins$(if $(PYTHONPATH),:$(PYTHONPATH)) \
	$(PY) -m snakemake --snakefile workflow/Snakefile --cores $(JOBS) \
	$(if $(PROFILE),--workflow-profile workflow/profiles/$(PROFILE)) \
	--rerun-incomplete --nolock $(ARGS) $(REPORT) $(if $(OWN),--configfile $(OWN)) \
	--config size=$(SIZE) $(if $(MODEL),own_model=$(MODEL)) $(if $(DATA),own_data=$(DATA)) \
	$(if $(SAMPLES),own_samples=$(SAMPLES)) $(if $(DEVICE),own_device=$(DEVICE)) \
	$(if $(PRECISION),own_precision=$(PRECISION))

# PROFILE=slurm runs each step of the book as a job of a cluster.
PROFILES := $(notdir $(wildcard workflow/profiles/*))
ifneq ($(PROFILE),$(filter $(PROFILES),$(PROFILE)))
$(error There is no profile '$(PROFILE)': $(PROFILES))
endif

INCOMPLETE := Not everything is fetched: pages of models that others trained are left out. Again, \
	where there is a network: make parts

.PHONY: help setup parts book pdf publish picture bucket test fuzz lint zoo bench bench-peers clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' \
		| awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  make book and make test install what they need into $(VENV) by themselves."

setup: parts  ## install the pinned environment into .venv, fetch the parts

# tinysoundfont comes without its dependencies: one, which plays sounds aloud, needs a compiler.
$(READY): pyproject.toml constraints.txt
	test -x $(PY) || $(BASE_PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	# What an earlier installation left there would hide worlds that were registered since.
	rm -rf ima.egg-info
	$(PY) -m pip install --quiet --constraint constraints.txt --editable \
		".[models,remote,workers,executors,book,dev]"
	$(PY) -m pip install --quiet --constraint constraints.txt --no-deps tinysoundfont
	touch $@

# Both are tried, and without a network the rest goes on with what is there.
parts: $(READY)  ## fetch models, drawings and sounds that others made, where there is a network
	@$(PY) -m ima.cli models fetch || echo "$(INCOMPLETE)"
	@$(PY) -m ima.cli data fetch || echo "$(INCOMPLETE)"

# Two calls, so that a cache that was looked at again and did not change reruns no finding.
book: parts  ## build the book into _build/html (SMALL=1 or FULL=1: fewer or more samples)
	$(SNAKEMAKE) -- caches
	$(SNAKEMAKE) -- site
	@echo "The book is in _build/html/index.html."

pdf: $(READY)  ## print the built book as _build/book.pdf (needs Chromium)
	$(PY) workflow/pdf.py $(ARGS)

publish: $(READY)  ## write the built book to _build/publish, for any static host
	$(PY) workflow/publish.py $(ARGS)

picture:  ## draw the README's picture from the caches of the book
	$(ONE_THREAD) $(PY) workflow/picture.py --sample 8 \
		data/caches/$(SIZE)/smollm2-dinov2-image-caption--drawings-image-caption.zarr \
		data/caches/$(SIZE)/smollm2-dinov2-image-qa--drawings-image-qa.zarr

# Its own versions of packages, which are not ours: botocore wants an older dateutil.
bucket: $(READY)  ## install the S3 server that the tests of caches in a bucket start
	test -d $(VENV)/bucket/moto || $(PY) -m pip install --quiet --no-deps --target $(VENV)/bucket \
		--requirement tests/bucket.txt

test: $(READY)  ## run the tests (ARGS="-k name" picks some)
	$(ONE_THREAD) $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

fuzz: $(READY)  ## read damaged files, manifests, caches and models for about ten minutes
	$(ONE_THREAD) $(PY) -m pytest --numprocesses $(JOBS) -m fuzz tests/fuzz $(ARGS)
	# Large, and made for Linux on x86-64 only: no other target needs it.
	$(PY) -m pip install --quiet --constraint constraints.txt atheris
	for target in $$($(PY) tests/fuzz/guided.py); do echo "guided: $$target"; \
		$(ONE_THREAD) $(PY) tests/fuzz/guided.py $$target -max_total_time=$(FUZZ_SECONDS) \
		-artifact_prefix=/tmp/ -verbosity=0 || exit 1; done

lint: $(READY)  ## check style, types and the direction of imports; style of the notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo pyproject.toml
	$(PY) -m jupytext --quiet --check "$(PY) -m ruff check {}" notebooks/*.md

zoo: $(READY)  ## retrain every miniature model from nothing (ARGS=--keep: what changed only)
	$(PY) -m ima.cli zoo train $(ARGS)

bench: $(READY)  ## measure how fast this machine captures, writes and reads activations
	$(ONE_THREAD) $(PY) -m ima.cli bench --out _build/bench.json $(ARGS)

# They share torch and transformers with us: only what we lack is installed, beside our packages.
bench-peers: $(READY)  ## install the libraries that make bench compares capture with
	rm -rf $(VENV)/peers
	$(PY) -m pip install --quiet --no-deps --target $(VENV)/peers --requirement ima/bench/peers.txt

clean:  ## remove the book, its runs and its caches; keeps .venv, data/zoo and caches of yours
	rm -rf _build book/runs book/_generated $(addprefix data/caches/,small standard full) data/explorer data/masks data/own .snakemake
