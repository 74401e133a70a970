# The first two targets are the README's commands; each installs what it needs into .venv.
# Another Python than python3: make PYTHON=python3.12 demo
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# More than two cores have, since most of the tests' time is waiting for daemons; what is named by
# TESTS runs in one process.
PROCESSES ?= $(if $(TESTS),0,4)
# With the right to it, a network of one's own, where packets can be dropped.
NETNS   = $(shell unshare --net true 2>/dev/null && echo "unshare --net .ci/with-loopback")
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The clients that `make clients` tries, each in an environment of its own, since they do not agree
# on the versions of what they share.
CLIENTS ?= $(patsubst requirements/clients/%.txt,%,$(wildcard requirements/clients/*.txt))
CLIENT_ENVIRONMENTS := $(VENV)-clients
NODE_CLIENTS = $(if $(shell command -v npm),$(patsubst %/package-lock.json, \
  %/node_modules/.package-lock.json,$(wildcard tests/clients/node/package-lock.json)))
# Programs that are tried as well; they are large, so none by default.
PROGRAMS ?=

.PHONY: demo run test test-versions coverage kill-test usage-test records-test reloads chaos systemd-test clients lint
.PHONY: bench bench-quick screenshots lock clean

demo: $(VENV)/run.stamp      ## try it: no key and no internet needed
	@echo "starting the demo; Ctrl-C ends it"
	$(BIN)/twistd -n --pidfile= gemproxy --demo

run: $(VENV)/run.stamp       ## serve with the key in GEMINI_API_KEY, or with config/*.yaml
	@test -e config/proxy.yaml || $(BIN)/gemproxy init
	$(BIN)/twistd -n --pidfile= gemproxy

test: $(VENV)/dev.stamp      ## every test
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal $(TESTS)

test-versions:               ## the tests with the lowest, locked and newest dependencies
	.ci/versions

coverage: $(VENV)/dev.stamp  ## which lines and branches the tests reach
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(TESTS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

kill-test: $(VENV)/dev.stamp ## fifty kills in a row of the real daemon
	GEMPROXY_KILLS=50 $(BIN)/python -m pytest tests/integration/test_state.py -k kill_after_kill

usage-test: $(VENV)/dev.stamp ## ten thousand mixed requests with restarts and a kill: counted exactly
	GEMPROXY_USAGE_REQUESTS=10000 $(BIN)/python -m pytest tests/integration/test_usage.py -k handed_out

records-test: $(VENV)/dev.stamp ## three million recorded requests: searches under 200 ms, the file within its bound
	$(BIN)/python benchmarks/records.py

reloads: $(VENV)/dev.stamp   ## a thousand reloads under load: no request lost, memory flat
	GEMPROXY_RELOADS=1000 $(BIN)/python -m pytest tests/integration/test_reload.py -k under_load

chaos: $(VENV)/dev.stamp     ## half an hour of everything that goes wrong; MINUTES=2 for less
	GEMPROXY_CHAOS_MINUTES=$(or $(MINUTES),30) $(NETNS) \
	  $(BIN)/python -m pytest -s tests/chaos $(TESTS)

systemd-test: $(VENV)/dev.stamp ## the units and what the docs say of them, on a Debian that boots for it
	GEMPROXY_SYSTEMD=1 $(BIN)/python -m pytest -s tests/systemd $(TESTS)

clients: $(VENV)/dev.stamp $(CLIENTS:%=$(CLIENT_ENVIRONMENTS)/%.stamp) $(NODE_CLIENTS)
clients: $(if $(filter openai,$(CLIENTS)),$(CLIENT_ENVIRONMENTS)/suite.stamp)
clients: $(PROGRAMS:%=tests/clients/programs/%/node_modules/.package-lock.json)
clients:                     ## real clients and frameworks; CLIENTS="openai langchain" for some, PROGRAMS=claude-code
	GEMPROXY_CLIENT_PYTHONS="$(CLIENTS:%=$(abspath $(CLIENT_ENVIRONMENTS))/%/bin/python)" \
	  $(BIN)/python -m pytest tests/clients $(TESTS)

lint: $(VENV)/dev.stamp      ## style, types, imports, commits and the changelog's lines
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	.ci/commit-subjects
	.ci/changelog

bench: $(VENV)/dev.stamp     ## what it costs, beside nginx: eight minutes; needs nginx and gcc
	$(BIN)/python benchmarks/bench.py $(BENCH)

bench-quick: $(VENV)/dev.stamp ## the same in half a minute, for a first look
	$(BIN)/python benchmarks/bench.py --quick $(BENCH)

screenshots: $(VENV)/dev.stamp ## the README's pictures of the dashboard (needs chromium)
	PYTHONPATH=tests $(BIN)/python tests/screenshots.py docs/images

lock:                        ## renew the pinned versions (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url requirements/build.in pyproject.toml -o requirements/run.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --extra test --extra lint requirements/build.in pyproject.toml \
	  -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --upgrade --resolution lowest-direct pyproject.toml \
	  -o requirements/lowest.txt
	for name in uv $(patsubst requirements/%.in,%,$(wildcard requirements/clients/*.in)); do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url requirements/$$name.in -o requirements/$$name.txt || exit 1; done

# A new enough Python with venv, or a word on what is missing; and no half-made .venv.
$(VENV)/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>&1) || found="not found"; \
	  echo "gemproxy needs Python 3.11 or newer, and $(PYTHON) is: $$found" >&2; \
	  echo "name another one, such as: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) lacks its modules venv and ensurepip; on Debian: apt install python3-venv" >&2; \
	  exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "making $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }; }
	@touch $@

$(VENV)/run.stamp: requirements/run.txt setup.py pyproject.toml | $(VENV)/venv.stamp
	@echo "installing gemproxy and what it needs into $(VENV): up to a minute, the first time only"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt setup.py pyproject.toml | $(VENV)/venv.stamp
	@echo "installing gemproxy and its tests' tools into $(VENV): a minute, the first time only"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@ $(VENV)/run.stamp

$(CLIENT_ENVIRONMENTS)/uv.stamp: requirements/uv.txt | $(VENV)/venv.stamp
	@$(BIN)/python -m venv --clear $(CLIENT_ENVIRONMENTS)/uv
	@$(CLIENT_ENVIRONMENTS)/uv/bin/python -m pip --disable-pip-version-check --quiet \
	  install --require-hashes -r requirements/uv.txt
	@touch $@

$(CLIENT_ENVIRONMENTS)/%.stamp: requirements/clients/%.txt | $(CLIENT_ENVIRONMENTS)/uv.stamp
	@echo "installing $* into $(CLIENT_ENVIRONMENTS)/$*"
	@$(CLIENT_ENVIRONMENTS)/uv/bin/uv venv -q --clear --python $(BIN)/python $(CLIENT_ENVIRONMENTS)/$*
	@$(CLIENT_ENVIRONMENTS)/uv/bin/uv pip install -q --python $(CLIENT_ENVIRONMENTS)/$*/bin/python \
	  --require-hashes -r $<
	@touch $@

# The SDK's sdist of the pinned version, since its tests are in no wheel.
$(CLIENT_ENVIRONMENTS)/suite.stamp: requirements/clients/openai.txt | $(VENV)/venv.stamp
	@echo "fetching the tests of the openai SDK"
	@rm -rf $(CLIENT_ENVIRONMENTS)/suite && mkdir -p $(CLIENT_ENVIRONMENTS)/suite/sdist
	@sed -n '/^openai==/,/[^\]$$/p' $< >$(CLIENT_ENVIRONMENTS)/suite/pinned.txt
	@$(PIP) download --require-hashes --no-deps --no-binary openai -d $(CLIENT_ENVIRONMENTS)/suite/sdist \
	  -r $(CLIENT_ENVIRONMENTS)/suite/pinned.txt
	@tar -xzf $(CLIENT_ENVIRONMENTS)/suite/sdist/*.tar.gz --strip-components=1 \
	  -C $(CLIENT_ENVIRONMENTS)/suite
	@touch $@

tests/clients/node/node_modules/.package-lock.json: tests/clients/node/package-lock.json
	@echo "installing the JavaScript clients into tests/clients/node/node_modules"
	@cd tests/clients/node && npm ci --no-audit --no-fund --silent
	@touch $@

tests/clients/programs/%/node_modules/.package-lock.json: tests/clients/programs/%/package-lock.json
	@echo "installing $* into tests/clients/programs/$*/node_modules"
	@cd tests/clients/programs/$* && npm ci --no-audit --no-fund --silent
	@touch $@

clean:
	rm -rf $(VENV) $(CLIENT_ENVIRONMENTS) tests/clients/node/node_modules tests/clients/programs/*/node_modules build benchmarks/build dist *.egg-info .hypothesis .mypy_cache .ruff_cache
