#!/usr/bin/env bash
# Seen with: dagster 1.13.27 (Python 3.11, Linux).
#
# Behaviour: outside of a run, a check of a partition can be reported only once. The second AssetCheckEvaluation of the same check and partition, by
# `instance.report_runless_asset_event` or, by way of it, by `SensorResult(asset_events=...)`, violates the unique constraint of the table
# asset_check_executions (asset key, check, run id, partition), because all results outside of runs share the empty run id. So what was reported failed can never be
# reported passed. Without a partition there is no such limit: NULL differs from NULL.
#
# Output that was seen:
#   without a partition: failed, then passed
#   2026-01-10: failed, then IntegrityError; the status is still FAILED
#
# Who meets it: whoever lets a sensor say which partitions are late, or lets another system report the quality of a day and later correct it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dagster==1.13.27
export DAGSTER_HOME=$work/home DAGSTER_DISABLE_TELEMETRY=1
mkdir home
echo 'telemetry: {enabled: false}' >home/dagster.yaml
venv/bin/python - <<'PY'
import dagster as dg
from sqlalchemy.exc import IntegrityError

key = dg.AssetCheckKey(dg.AssetKey("events"), "has_landed")


def report(instance, passed, partition=None):
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=key.asset_key, check_name=key.name, passed=passed, partition=partition)
    )


def status(instance):
    return instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0].status.value


with dg.DagsterInstance.get() as instance:
    report(instance, False)
    report(instance, True)
    assert status(instance) == "SUCCEEDED"
    print("without a partition: failed, then passed")
    report(instance, False, "2026-01-10")
    try:
        report(instance, True, "2026-01-10")
    except IntegrityError as error:
        print(f"2026-01-10: failed, then {type(error).__name__}; the status is still {status(instance)}")
    else:
        raise SystemExit("It can be reported again.")
    assert status(instance) == "FAILED"
PY
echo "as described"
