# Two commands do everything on a fresh machine: `make demo` and `make test`. Python, make and a C++ compiler are all they need.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
RUN := $(VENV)/bin/python
CORES = $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell expr $(CORES) + 1)# pytest's worker processes: tests also wait, for processes that start or end
# Plugins that no test uses, though each is asked around every one.
PYTEST := $(RUN) -m pytest -p no:logging -p no:benchmark
unexport PYTHONDONTWRITEBYTECODE  # pytest's workers, and the processes that tests start, read the same files
CPP := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help demo test test-slow fuzz integrations gpu gates gates-triton gates-cuda sanitize sanitize-cpu bench lint format comments gallery docs docs-serve notebooks wheel wheel-release clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

$(VENV)/torch.stamp:
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet "setuptools>=77" wheel numpy $(TORCH)
	@touch $@

# The kernels are built by pip against the torch above: nothing is compiled at import. The demo
# needs those of this machine's SIMD level, the tests those of all.
$(VENV)/demo.stamp: $(VENV)/torch.stamp pyproject.toml setup.py $(CPP)
	PYEBM_SIMD=native $(RUN) -m pip install --quiet --no-build-isolation -e ".[demo]"
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(RUN) -m pip install --quiet "pyebm-kernels[demo,dev]" $(TORCH)
	PYEBM_CUDA=0 $(RUN) setup.py -q build_ext --inplace --force
	@touch $@

# Each demo runs on one thread, so the energies' runs beside the digits' and takes no time of its own.
demo: $(VENV)/demo.stamp  ## train on digits and on densities in the plane, draw into out/
	@mkdir -p out; $(RUN) -m pyebm demo --energy > out/energies.txt & beside=$$!; \
	trap "kill $$beside 2> /dev/null" EXIT INT TERM; \
	$(RUN) -m pyebm demo && wait $$beside && cat out/energies.txt

test: $(VENV)/dev.stamp  ## the tests
	$(PYTEST) -n $(WORKERS) --dist worksteal

# SEED=7 makes other cases; FUZZ=calls one fuzzer alone (tests/fuzz/fuzz.py names them).
fuzz: $(VENV)/dev.stamp  ## random cases; CASES=1000000 for a night
	$(RUN) tests/fuzz/fuzz.py $(FUZZ) --jobs $(CORES) --seed $(or $(SEED),$(shell date +%s)) $(if $(CASES),--cases $(CASES))

# TURN=3/20 runs the third of twenty parts of them.
test-slow: $(VENV)/dev.stamp  ## the tests and cases that `make test` leaves out
	$(PYTEST) -n $(WORKERS) --dist worksteal --slow --turn $(or $(TURN),0/1)

.PHONY: faults
faults: $(VENV)/dev.stamp  ## plant faults; a test must notice each; FAULTS="--only kernels/"
	$(RUN) tests/faults/plant.py $(FAULTS)

# k-diffusion and dctorch are installed without their requirements: numpy 1, and image tools that
# the loss and samplers don't use.
$(VENV)/integrations.stamp: $(VENV)/dev.stamp
	$(RUN) -m pip install --quiet "pyebm-kernels[integrations]" $(TORCH)
	$(RUN) -m pip install --quiet --no-deps k-diffusion==0.1.1.post1 dctorch==0.1.2
	@touch $@

integrations: $(VENV)/integrations.stamp  ## the adapters against the real packages
	PYEBM_REQUIRE_INTEGRATIONS=1 $(PYTEST) -n $(WORKERS) --dist worksteal tests/integrations pyebm/integrations tests/matrix/test_matrix_of_packages.py tests/package/test_types.py $(foreach test,every_side_does_the_same both_sides_of_a_call_site_run,tests/package/test_benchmarks.py::test_$(test))

gpu: $(VENV)/integrations.stamp  ## tests and benchmarks of a CUDA device, into docs/results/gpu
	$(RUN) -m pytest -m gpu --junitxml=docs/results/gpu/tests.xml
	$(RUN) -m pyebm bench --device cuda --seconds 1 --out docs/results/gpu

gates: gates-triton gates-cuda  ## compile the GPU kernels, hold them to their limits; needs no GPU

gates-triton: $(VENV)/dev.stamp
	$(RUN) tests/gpuless/gate.py

gates-cuda: $(VENV)/dev.stamp
	@if command -v nvcc >/dev/null; then PYEBM_CUDA=1 $(RUN) setup.py -q build_ext --inplace && $(RUN) tests/gpuless/cuda_gate.py; \
	else echo "skipped: the compile gate of the CUDA kernels, because nvcc was not found"; fi

# ttsem declares that it needs a later Python; it runs on this one too.
sanitize: $(VENV)/dev.stamp  ## the Triton kernels under a sanitizer; needs no GPU
	$(RUN) -m pip install --quiet --ignore-requires-python --no-deps ttsem==0.1.0
	PYTHONPATH=tests $(RUN) -m ttsem.sanitize pytest tests/sanitized_triton.py -q -p no:cacheprovider

SANITIZERS ?= address thread
sanitize-cpu: $(VENV)/dev.stamp  ## the fuzzers on a CPU library with sanitizers; TURN=2: one SIMD level
	for kind in $(SANITIZERS); do $(RUN) tests/fuzz/sanitized.py $(if $(TURN),--turn $(TURN)) $$kind $(FUZZ) --share 0.2 --jobs $(CORES) || exit 1; done

bench: $(VENV)/integrations.stamp  ## ours beside its rivals, into out/bench/; BENCH=--quick: 2 minutes
	$(RUN) -m pyebm bench $(BENCH)

LEVELS ?= avx2 baseline
.PHONY: records
records: $(VENV)/integrations.stamp  ## the release's records of the lower SIMD levels: the cases of --quick, timed as long as all
	for level in $(LEVELS); do $(RUN) -m pyebm bench --simd $$level --quick --seconds 2 --out out/bench-$$level && \
	$(RUN) tools/releases.py out/bench-$$level/report.json || exit 1; done

lint: $(VENV)/dev.stamp  ## ruff, mypy, clang-format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/dev.stamp  ## rewrite the sources as lint wants them
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
	$(VENV)/bin/clang-format -i $(CPP)

comments: $(VENV)/torch.stamp  ## thirty comments drawn at random, to be read aloud
	$(RUN) tools/comments.py

gallery: $(VENV)/demo.stamp  ## the pictures of docs/gallery.md
	for program in examples/gallery/*.py; do \
	$(RUN) $$program docs/images/gallery/$$(basename $$program .py).png || exit 1; done

$(VENV)/docs.stamp: $(VENV)/demo.stamp
	$(RUN) -m pip install --quiet "pyebm-kernels[docs]" $(TORCH)
	@touch $@

docs: $(VENV)/docs.stamp  ## the site, into build/site; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build

notebooks: $(VENV)/docs.stamp $(VENV)/integrations.stamp  ## the tutorials as notebooks, or those named: NAMES="plane mcmc"; PICTURES=1 renews docs/'s pictures
	$(RUN) tools/notebooks.py $(if $(PICTURES),--pictures) $(NAMES)

docs-serve: $(VENV)/docs.stamp  ## the site on port 8000, anew at each change
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs serve

wheel: $(VENV)/dev.stamp  ## one abi3 wheel, into dist/
	$(RUN) -m build --wheel --no-isolation

# torch's own libraries are left out: the wheel runs with those of the torch that is installed.
wheel-release: wheel  ## that wheel, ABI checked, for manylinux, into dist/release
	$(RUN) -m pip install --quiet "pyebm-kernels[release]" $(TORCH)
	$(RUN) -m abi3audit --strict dist/*-abi3-linux_*.whl
	PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(RUN) -m auditwheel repair --exclude 'libtorch*.so' --exclude libc10.so \
	--wheel-dir dist/release dist/*-abi3-linux_*.whl

clean:  ## remove the environment, what was built, and what was written
	rm -rf $(VENV) build dist out *.egg-info pyebm/*.so .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
