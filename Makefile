# `make help` lists the targets. Needs Python 3.10 or newer and nothing else: each target installs what it
# uses into a virtual environment of its own here. PYTHON=/path/to/python3.12 chooses the interpreter.

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types layers test-slow test-browser picture test-mcp1 test-otel-oldest \
	test-recipes test-pythons test-locks-full test-model-full bench bench-scenarios bench-scenarios-full bench-stalls bench-stalls-full \
	bench-telemetry bench-telemetry-full test-collector test-grafana test-grafana-full grafana preview wheel requirements clean

INSTALL := requirements/install.sh requirements/system.sh pyproject.toml setup.py
FAST := -m "not slow and not browser"
# What depends on mcp; the dashboard, Grafana and the packaging do not.
MCP_SUITE := --ignore=tests/dashboard --ignore=tests/grafana --ignore=tests/house -m "not browser"
# Alone: beside other tests a healthy demo is not healthy.
HEALTHY := tests/grafana/engines/test_healthy.py
# Two at a time, and the tests of a file together: most of a test's time is waiting for processes.
TWO := -n 2 --dist loadfile
PATHS := $(wildcard instrumented_sessions dashboard grafana benchmarks examples tests setup.py)

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do \
		printf '  make %-20s %s\n' "$$name" "$$what"; done

demo: .venv-demo/.ready ## Run the demonstration; ARGS="--duration 60 --headless" are passed on
	@.venv-demo/bin/instrumented-sessions demo $(ARGS)

test: .venv/.ready .venv-core/.ready ## Run the tests in under five minutes, and install what they need
	@.venv/bin/python -m pytest $(TWO) $(FAST) $(ARGS)

test-slow: .venv/.ready chromium ## Run what `make test` leaves out: whole programs, storms and a browser
	@.venv/bin/python -m pytest $(TWO) -m "slow or browser" $(ARGS)

check: lint types layers test ## Run the linter, the type checker, the layers and the tests

format: .venv/.ready ## Format the code
	@.venv/bin/ruff check --fix-only --quiet $(PATHS); .venv/bin/ruff format $(PATHS)

lint: .venv/.ready ## Check style and formatting
	@.venv/bin/ruff check $(PATHS)
	@.venv/bin/ruff format --check $(PATHS)

types: .venv/.ready ## Check types, strictly
	@.venv/bin/mypy

layers: .venv/.ready ## Check that imports never point up
	@.venv/bin/lint-imports

test-browser: .venv/.ready chromium ## Run the tests that drive a browser
	$(call suite,.venv,-m browser)

picture: .venv/.ready chromium ## Make the README's picture of the dashboard anew
	@DASHBOARD_PICTURE=docs/images/dashboard.png .venv/bin/python -m pytest -q -k appear_live tests/e2e

test-mcp1: .venv-mcp1/.ready .venv-mcp1-oldest/.ready ## Run the tests on the newest and the oldest mcp 1.x
	$(call suite,.venv-mcp1,$(MCP_SUITE))
	$(call suite,.venv-mcp1-oldest,$(MCP_SUITE))

test-collector: .venv/.ready ## Build a real OpenTelemetry Collector, once, and send telemetry through it
	@requirements/collector.sh || true
	$(call suite,.venv,tests/telemetry/test_real_collector.py)

test-otel-oldest: .venv-otel-oldest/.ready ## Run the telemetry's tests on the oldest OpenTelemetry and Prometheus client
	$(call suite,.venv-otel-oldest,tests/telemetry)

test-grafana: .venv-grafana/.ready engines ## Run dashboards and alerts against real engines, in three minutes
	@.venv-grafana/bin/python -m pytest $(TWO) tests/grafana --ignore=$(HEALTHY) $(ARGS)
	@.venv-grafana/bin/python -m pytest $(HEALTHY) $(ARGS)

test-grafana-full: .venv-grafana/.ready engines ## The same on an idle machine: holds latencies, ten healthy minutes
	@GRAFANA_FULL=1 .venv-grafana/bin/python -m pytest -s tests/grafana $(ARGS)

grafana: .venv-grafana/.ready ## Write Grafana's dashboards and the alert rules anew
	@.venv-grafana/bin/python -m grafana.build $(ARGS)

preview: .venv-grafana/.ready engines ## Draw each dashboard from a real Prometheus into docs/images
	@.venv-grafana/bin/python -m grafana.preview $(ARGS)

test-recipes: .venv-recipes/.ready ## Run docs/recipes.md under gunicorn, Celery and Jupyter, in half a minute
	@RECIPES=1 .venv-recipes/bin/python -m pytest $(TWO) tests/recipes $(ARGS)

test-pythons: .venv-core/.ready ## Run the fast tests on each Python from 3.10 to 3.13 that is here but SKIP
	@failed=; for found in $$(requirements/interpreters.sh); do \
		version=$${found%%=*}; python=$${found#*=}; echo "== Python $$version: $$python"; \
		case " $(SKIP) " in *" $$version "*) echo "left out"; continue;; esac; \
		{ $(MAKE) --no-print-directory ".venv-$$version/.ready" PYTHON="$$python" && \
		".venv-$$version/bin/python" -m pytest $(TWO) $(FAST) $(ARGS); } || failed="$$failed $$version"; \
	done; [ -z "$$failed" ] || { echo "Failed on Python$$failed"; exit 1; }

bench: .venv/.ready ## Measure what the README states; SHORT=1 takes a few minutes
	@.venv/bin/python -m benchmarks $(if $(SHORT),--short) $(ARGS)

bench-scenarios: .venv/.ready ## Measure what the scenarios promise, in a minute or two
	@.venv/bin/python -m benchmarks.scenarios --short $(ARGS)

bench-scenarios-full: .venv/.ready ## The same in full; writes docs/benchmarks-scenarios.md
	@.venv/bin/python -m benchmarks.scenarios $(ARGS)

bench-stalls: .venv/.ready ## Measure the watchdog, in the stall harness too if STALL_BENCH has it; minutes
	@.venv/bin/python -m benchmarks.stalls $(ARGS)

bench-stalls-full: .venv/.ready ## The same in seventy minutes, and write the figures into docs/watchdog.md
	@.venv/bin/python -m benchmarks.stalls --full $(ARGS)

bench-telemetry: .venv/.ready ## Measure what telemetry costs, in a minute
	@.venv/bin/python -m benchmarks.telemetry_cost --short $(ARGS)

bench-telemetry-full: .venv/.ready ## The same at length; writes docs/benchmarks-telemetry.md
	@.venv/bin/python -m benchmarks.telemetry_cost $(ARGS)

test-locks-full: .venv/.ready ## Storm the users' own locks with a million acquisitions; a few minutes
	@LOCK_STORM=1000000 .venv/bin/python -m pytest --timeout 3600 tests/deadlocks/test_storms.py $(ARGS)

test-model-full: .venv/.ready ## Explore twenty thousand schedules of each small world; half an hour of one core
	@MODEL_SCHEDULES=20000 .venv/bin/python -m pytest --timeout 3600 tests/model $(ARGS)

wheel: .venv/.ready ## Build a wheel into dist/
	@.venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

requirements: ## Pin the environments anew; ARGS=--upgrade takes the newest of everything
	@requirements/compile.sh $(ARGS)

clean: ## Remove all that was installed or built here
	@rm -rf .venv .venv-* .engines build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/.ready: requirements/dev.txt $(INSTALL)
	@requirements/install.sh dev .venv

.venv-3.%/.ready: requirements/dev.txt $(INSTALL)
	@requirements/install.sh dev .venv-3.$*

.venv-%/.ready: requirements/%.txt $(INSTALL)
	@requirements/install.sh $* .venv-$*

# Without it the tests that need it are skipped with a sentence, and fail in CI.
.PHONY: chromium
chromium:
	@requirements/system.sh chromium || true

# Real ones, in .engines; without them their tests are skipped with a sentence, and fail in CI.
.PHONY: engines
engines:
	@requirements/engines.sh || true

# pytest's exit code 5 means that none was selected: said, but no failure, as a suite may be yet to come.
define suite
	@$(1)/bin/python -m pytest $(TWO) $(2) $(ARGS) || { code=$$?; [ $$code -eq 5 ] || exit $$code; \
		echo "No test was selected by: pytest $(2)"; }
endef
