# Every target does its own set-up, from a fresh clone, with nothing but Python 3.11+ (and apt, as root, for the
# programs that tests compare against). `make demo` shows the product; `make test` proves it.

SHELL := /bin/bash
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROJECTS := $(sort $(wildcard kernel sdk/python sdk/cli plugins/*))
PROTOS := $(shell find proto -name '*.proto' 2>/dev/null | sort)
CASES ?= *
PYTEST_ARGS ?=

.PHONY: setup demo test lint proto proto-check bench soak lock clean system-tools

setup: $(STAMP)

# uv is bootstrapped by the hashes of the lock itself, so no unpinned byte is ever run.
$(STAMP): requirements.lock $(addsuffix /pyproject.toml,$(PROJECTS))
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	@awk '/^[A-Za-z]/{keep=/^uv==/} keep' requirements.lock > $(VENV)/uv.lock
	@test -x $(BIN)/uv || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@$(BIN)/uv pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation $(foreach p,$(PROJECTS),-e ./$(p))
	@$(BIN)/python -m compileall -q kernel/src sdk/python/src sdk/cli/src $(wildcard plugins/*/src)
	@touch $@

# Ray is 200 MB: it has a lock of its own, from which the tests of executor-ray install it beside everything else.
lock:
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  --python-version 3.11 --group pyproject.toml:dev --all-extras --no-emit-package hypersdk \
	  $(addsuffix /pyproject.toml,$(filter-out plugins/executor-ray,$(PROJECTS))) -o requirements.lock
	$(BIN)/uv pip compile -q --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11 \
	  --extra ray --no-emit-package hypersdk plugins/executor-ray/pyproject.toml -o plugins/executor-ray/ray.lock

# Programs that tests compare against; the product itself needs none of them.
SYSTEM_TOOLS := qemu-img:qemu-utils mkfs.ext4:e2fsprogs e2fsck:e2fsprogs node:nodejs npm:npm nbdkit:nbdkit \
  /usr/lib/postgresql/*/bin/postgres:postgresql
system-tools:
	@missing=""; for t in $(SYSTEM_TOOLS); do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v $${t%%:*} >/dev/null || missing="$$missing $${t##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else echo "tests compare against programs of these packages; install them:$$missing" >&2; exit 1; fi; fi

# Where the tests of executor-ray find Ray.
build/ray: $(STAMP) plugins/executor-ray/ray.lock
	@rm -rf $@ && $(BIN)/uv venv -q --python $(BIN)/python $@
	@$(BIN)/uv pip sync -q --python $@/bin/python --require-hashes plugins/executor-ray/ray.lock || \
	  { rm -rf $@; echo "Ray could not be installed; the tests that need it will skip" >&2; }

test: $(STAMP) system-tools build/proto-include build/ray
	$(BIN)/python -m tests.together $(PYTEST_ARGS)

soak: $(STAMP) system-tools build/ray
	$(BIN)/pytest $(PYTEST_ARGS) -m soak --timeout 3600

lint: $(STAMP) proto-check
	$(BIN)/ruff check .
	$(BIN)/mypy -p hypersdk -p hypersdk_kernel -p hyperctl
	$(BIN)/lint-imports

bench: $(STAMP) system-tools
	$(BIN)/python -m tests.bench "$(CASES)"

demo: $(STAMP)
	$(BIN)/python examples/01-export-a-disk/demo.py

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Imports that come from the locked environment, copied where buf and protoc find them.
build/proto-include: $(STAMP)
	@rm -rf $@ && mkdir -p $@/google
	@cp -r $(VENV)/lib/python3*/site-packages/google/{api,rpc,longrunning,type} $@/google/ 2>/dev/null || true
	@find $@ -type f ! -name '*.proto' -delete

# Stubs are generated into the SDK, committed, and checked fresh by `make lint`.
proto: $(STAMP) build/proto-include
	$(BIN)/python proto/generate.py sdk/python/src

proto-check: $(STAMP) build/proto-include
	$(BIN)/buf lint
	$(BIN)/python proto/generate.py --check sdk/python/src
