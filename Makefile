# make demo      a week of late batches, from an empty folder to corrected sessions, told step by step
# make test      style, types and all tests but those of make test-ui
# make quick     style, types and the tests that need no Spark: for every change, in under a minute
# make test-ui   Dagster's UI used as a person uses it, in a Chromium that the machine must have
# make test-s3   tables and batches on a local S3 server, which it builds with Go: races of several drivers, in some minutes
# make test-races  several processes on the same tables at the same moment, twenty rounds of each kind; takes an hour
# make test-gcs  tables and batches on a local server of Google's storage, which it builds with Go, in some minutes
# make test-cluster  the same tables on a standalone cluster of Spark, which it starts, also if workers are killed
# make test-faults  runs killed at random moments and at each boundary, full disks, torn logs: what is lost; SEED=17 repeats a run
# make soak      120 days of batches through the sensor and the daemon, with killed runs, verified by the oracle: some hours
# make lanes     the tests that use Spark most, on each Spark and each Python that is supported and found; takes hours
# make dev       Dagster's UI on the data of the demo, and a Spark that stays warm for its runs
# make test-connect  the tests of the contract with Spark on a server of Spark Connect
# make bench     how fast: every row of docs/performance.md, in some hours; a part of it: make bench ONLY=corrections-1m
# make compatibility  which writers' files land: writes docs/compatibility.md, from files of each writer
# make log-store  builds the JAR of the log store for S3 again, after a change of its source
# make pictures  takes the pictures of the UI in docs/pictures again

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

INSTANCE := .dagster_home/dagster.yaml
ON_CONNECT := corrections transforms landing sessions text_files maintenance correction_log lateness
SPARK_PORT ?= 15002
BESIDE := $(VENV)/tests-beside.log
# These tests use Spark as well, and run beside the others on a Spark of their own, so that both halves take as long.
SECOND_SPARK := $(addprefix sessions_dagster_tests/test_,programs.py transforms.py carried_columns.py lateness.py text_files.py)

# A server that refuses what S3 refuses. Another S3 server of that name on the PATH is used instead.
VERSITYGW := github.com/versity/versitygw/cmd/versitygw@v1.8.0
# A server that speaks the language of Google's storage. Another one of that name on the PATH is used instead.
FAKE_GCS := github.com/fsouza/fake-gcs-server@v1.55.1

.PHONY: demo dev test quick style test-ui test-s3 test-races test-gcs test-connect test-cluster test-faults lanes log-store soak bench compatibility pictures format clean
.DEFAULT_GOAL := demo

demo: $(INSTALLED) $(INSTANCE)
	@$(BIN)/python -m sessions_dagster.demo

dev: export DAGSTER_HOME := $(CURDIR)/.dagster_home
dev: export SESSIONS_INPUT_ROOT ?= $(CURDIR)/data/demo/input
dev: export SESSIONS_WAREHOUSE_ROOT ?= $(CURDIR)/data/demo/warehouse
dev: export SESSIONS_START_DATE ?= 2025-09-15
dev: export SESSIONS_SPARK_SERVER ?= sc://localhost:$(SPARK_PORT)
dev: export SPARK_CONNECT_AUTHENTICATE_TOKEN ?= $(shell $(PYTHON) -c "import secrets; print(secrets.token_urlsafe())")
dev: $(INSTALLED) $(INSTANCE)
	@$(BIN)/python -m sessions_dagster.definitions # ends here, and says why, if a setting is wrong
	@echo "==> Dagster on $(SESSIONS_WAREHOUSE_ROOT): open the address below (ctrl-c ends it, and the Spark of its runs)"
	@$(BIN)/python -m sessions_dagster spark-server --port $(SPARK_PORT) & trap "kill $$! 2>/dev/null; wait" EXIT; \
	$(BIN)/dg dev --no-check-yaml

test: $(INSTALLED) style
	@echo "==> Tests on a local Spark (pytest: some minutes); beside them types (mypy) and all other tests, shown below"
	@{ $(BIN)/mypy && $(BIN)/pytest -m "not spark" && $(BIN)/pytest -m spark $(SECOND_SPARK); } >$(BESIDE) 2>&1 & beside=$$!; \
	$(BIN)/pytest -m spark $(addprefix --ignore ,$(SECOND_SPARK)); on_spark=$$?; \
	wait $$beside; others=$$?; \
	echo "==> Types and all other tests"; cat $(BESIDE); \
	[ $$on_spark -eq 0 ] && [ $$others -eq 0 ]

quick: $(INSTALLED) style
	@$(BIN)/mypy
	@$(BIN)/pytest -q --durations=0 --durations-min=2 -m "not spark and not slow"

style: $(INSTALLED)
	@echo "==> Style (ruff)"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

test-ui: $(INSTALLED)
	@echo "==> Tests in a browser (pytest, on a dagster dev of their own: some minutes)"
	@$(BIN)/pytest sessions_dagster_tests/ui

test-s3: $(INSTALLED)
	@if [ -x $(BIN)/versitygw ] || command -v versitygw >/dev/null; then :; \
	elif command -v go >/dev/null; then \
		echo "==> Building versitygw, an S3 server (once, some minutes)"; \
		GOBIN=$(CURDIR)/$(BIN) go install $(VERSITYGW) || { echo "==> Tests on S3 left out: it could not be built"; exit 0; }; \
	else \
		echo "==> Tests on S3 left out: there is neither versitygw nor Go, with which it would be built"; exit 0; \
	fi; \
	echo "==> Tests on S3 (pytest: some minutes; the first time, Spark's connector is downloaded: 690 MB)"; \
	$(BIN)/pytest sessions_dagster_tests/s3 $(if $(ONLY),-k "$(ONLY)")

test-races: export SESSIONS_RACES ?= 20
test-races: $(INSTALLED)
	@echo "==> Races of processes, $(SESSIONS_RACES) rounds of each kind (pytest: about an hour)"
	@$(BIN)/pytest sessions_dagster_tests/races $(if $(ONLY),-k "$(ONLY)")
	@$(MAKE) --no-print-directory test-s3 ONLY="$(or $(ONLY),rounds or five)"

test-gcs: $(INSTALLED)
	@if [ -x $(BIN)/fake-gcs-server ] || command -v fake-gcs-server >/dev/null; then :; \
	elif command -v go >/dev/null; then \
		echo "==> Building fake-gcs-server, a server of Google's storage (once, some minutes)"; \
		GOBIN=$(CURDIR)/$(BIN) go install $(FAKE_GCS) || { echo "==> Tests on gs:// left out: it could not be built"; exit 0; }; \
	else \
		echo "==> Tests on gs:// left out: there is neither fake-gcs-server nor Go, with which it would be built"; exit 0; \
	fi; \
	echo "==> Tests on gs:// (pytest: some minutes; the first time, Spark's connector is downloaded: 38 MB)"; \
	$(BIN)/pytest sessions_dagster_tests/gcs

log-store: $(INSTALLED)
	@$(BIN)/python -m sessions_dagster_tests.log_store

test-connect: $(INSTALLED)
	@echo "==> Tests of the contract on Spark Connect (pytest: some minutes)"
	@$(BIN)/pytest -m spark --spark-connect $(addprefix sessions_dagster_tests/test_,$(addsuffix .py,$(ON_CONNECT)))
	@$(BIN)/pytest sessions_dagster_tests/connect

test-cluster: $(INSTALLED)
	@echo "==> Tests on a standalone cluster of Spark on this machine (pytest: some minutes)"
	@$(BIN)/pytest sessions_dagster_tests/cluster $(if $(ONLY),-k "$(ONLY)")

test-faults: $(INSTALLED)
	@$(BIN)/python -m sessions_dagster_tests.faults $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS))

lanes: $(INSTALLED)
	@$(BIN)/nox

soak: $(INSTALLED)
	@$(BIN)/python -m sessions_dagster_tests.soak

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

compatibility: $(INSTALLED)
	@$(BIN)/python -m sessions_dagster_tests.compatibility

pictures: $(INSTALLED)
	@$(BIN)/python -m sessions_dagster_tests.ui.pictures

format: $(INSTALLED)
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean:
	rm -rf $(VENV) .dagster_home .tmp_dagster_home_* data/demo data/bench

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Python 3.11 or newer is needed, but %s is %d.%d. Name another one: make PYTHON=python3.12' % ((sys.executable,) + sys.version_info[:2]))"
	@echo "==> Setting up $(VENV) (once; Spark alone is 450 MB, so this takes some minutes)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(INSTANCE): deploy/local/dagster.yaml | $(INSTALLED)
	@mkdir -p $(@D)
	@cp $< $@
	@DAGSTER_HOME="$(CURDIR)/$(@D)" $(BIN)/dagster instance concurrency set warehouse 1
