# The commands for people. `make demo` and `make test` are all that a newcomer needs; each installs
# what is missing first and is quick when nothing changed.
PYTHON ?= python3
VENV   := .venv
# meson calls ninja by name
IN_VENV = PATH='$(CURDIR)/$(VENV)/bin':"$$PATH"
PY     := $(VENV)/bin/python
SRC    := $(shell find src python -type f ! -name '*.pyc' 2>/dev/null) meson.build meson.options pyproject.toml
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help deps demo test test-c test-python conformance parity coverage deploy sim bench bench-record bench-c scale chaos faults asan tsan fuzz fmt lint fresh clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

deps: $(VENV)/.deps ## install what the build needs (apt as root, Python's into .venv), or say what is missing
$(VENV)/.deps: tools/deps.sh tools/requirements.txt
	@PYTHON='$(PYTHON)' tools/deps.sh $(VENV)

# covey itself, built and installed into .venv
$(VENV)/.installed: $(VENV)/.deps $(SRC)
	@tools/install.sh $(VENV)

demo: $(VENV)/.installed ## start a cluster of all cores, run a real job, stop it
	@$(PY) examples/demo.py

build/build.ninja: | $(VENV)/.deps
	@$(IN_VENV) meson setup build --native-file $(VENV)/meson-native.ini > build-setup.log 2>&1 || { cat build-setup.log; exit 1; }
	@rm -f build-setup.log

test: $(VENV)/.installed build/build.ninja deploy-programs ## every test, C and Python; the last line counts them
	@tools/test.sh $(VENV) build

test-c: build/build.ninja ## the C tests alone
	@$(IN_VENV) meson test -C build --timeout-multiplier 5 --print-errorlogs

test-python: $(VENV)/.installed ## the Python tests alone
	@$(PY) -m pytest -q

conformance: $(VENV)/.installed ## ipyparallel's own tests against covey under its name, in an environment made for it (ARGS='-k px')
	@tools/conformance.sh $(VENV) test/conformance/public.txt $(ARGS)

parity: $(VENV)/.installed ## a check for each behaviour of ipyparallel, by row; what fails, what is only told (ARGS='P0* M001')
	@$(PY) -m test.parity $(ARGS)

coverage: $(VENV)/.installed ## lines of the Python code that its tests run, engines and child processes too (ARGS: pytest's)
	@tools/coverage.sh $(VENV) $(ARGS)

.PHONY: deploy-programs
deploy-programs: $(VENV)/.installed # what the deployments run for real, where it may be installed
	@tools/deploy-deps.sh $(VENV)

DEPLOY = $(PY) -m pytest -q -ra -m 'not chaos' --durations=0 --durations-min=0.5
deploy: $(VENV)/.installed ## deployments on machines of name spaces and in containers, each with its time (one: make deploy-snet)
	@tools/deploy-deps.sh $(VENV) all
	@$(DEPLOY) test/deploy

deploy-%: $(VENV)/.installed
	@tools/deploy-deps.sh $(VENV) $*
	@$(DEPLOY) test/deploy/test_$(subst -,_,$*).py $(wildcard test/deploy/test_$(subst -,_,$*)_kill.py)

# builds some targets of build/, quietly unless it fails
NINJA = f() { $(IN_VENV) ninja -C build "$$@" >build/ninja.log 2>&1 || { tail -n 40 build/ninja.log; exit 1; }; }; f

sim: build/build.ninja ## 100,000 simulated schedules (ARGS='--seed 7 --story', others of build/test/sim/sim)
	@$(NINJA) test/sim/sim
	@build/test/sim/sim $(or $(ARGS),--seeds 1..100000)

bench: $(VENV)/.installed build/build.ninja ## measure covey beside its peers in one run, ten minutes (ARGS='--quick', ARGS=--help)
	@$(NINJA) test/scale/scale-peers # simulated engines
	@$(PY) bench/bench.py $(ARGS)

bench-record: $(VENV)/.installed build/build.ninja ## the same, on a quiet machine: for docs/bench.json and the figures in the documents
	@$(NINJA) test/scale/scale-peers # simulated engines
	@$(PY) bench/bench.py --json build/bench.json --against docs/bench.json $(ARGS)
	@cp build/bench.json docs/bench.json && $(PY) bench/bench.py --readme

bench-c: build/build.ninja ## measure the C layers alone: wire, net, sched, store; a minute
	@$(NINJA) src/wire/wire-bench src/store/store-bench src/sched/sched-bench src/tls/net-bench
	@build/src/wire/wire-bench && build/src/store/store-bench && build/src/sched/sched-bench 300000 && build/src/tls/net-bench 0.5

scale: $(VENV)/.installed build/build.ninja ## ten thousand engines, strangers, clients that come and go, flat memory (ARGS='--quick')
	@$(IN_VENV) ninja -C build test/scale/scale-peers test/scale/scale-strangers >/dev/null
	@$(PY) -m test.scale.scale $(ARGS)

faults: $(VENV)/.installed ## whole programs, each call of theirs failing in turn, hours (ARGS='controller --kinds=m --every=10', ARGS=--help)
	@$(PY) -m test.system.nth $(ARGS)

asan: $(VENV)/.deps ## C tests and Python system tests under AddressSanitizer and UBSan
	@tools/sanitize.sh address,undefined $(VENV)

tsan: $(VENV)/.deps ## C tests, and Python tests with many threads, under ThreadSanitizer
	@tools/sanitize.sh thread $(VENV)

chaos: $(VENV)/.installed build/build.ninja ## bad days, about a quarter of an hour: a million tasks while engines are killed, a minute without a network (ARGS: chaos.py's)
	@$(NINJA) test/sim/replay # what the scheduler did
	@$(PY) bench/chaos.py $(ARGS)
	@$(PY) -m pytest -q -ra -m chaos --timeout=900

fuzz: $(VENV)/.deps ## run each fuzz target for FUZZ_SECONDS (60) with libFuzzer
	@tools/fuzz.sh $(FUZZ_SECONDS) $(VENV)

fmt: $(VENV)/.deps ## format the C code
	@git ls-files 'src/*.[ch]' 'test/*.[ch]' 'fuzz/*.[ch]' 'bench/*.[ch]' | xargs $(VENV)/bin/clang-format -i

lint: $(VENV)/.deps ## check format and Python code
	@git ls-files 'src/*.[ch]' 'test/*.[ch]' 'fuzz/*.[ch]' 'bench/*.[ch]' | xargs $(VENV)/bin/clang-format --dry-run -Werror
	@$(VENV)/bin/ruff check python compat test examples bench

fresh: ## the README's two commands in a new minimal Debian container (needs root, docker, debootstrap)
	@tools/fresh.sh

clean: ## remove what was built (not .venv)
	rm -rf build build-* dist
