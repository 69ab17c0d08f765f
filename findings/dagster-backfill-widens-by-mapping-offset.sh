#!/usr/bin/env bash
# Seen with: dagster 1.13.27, dagster-graphql 1.13.27 (Python 3.11, Linux).
#
# Behaviour: the days that are chosen for a backfill of several assets are the days of the topmost ones only. A child whose TimeWindowPartitionMapping looks
# N days back is backfilled for the chosen days and for N days after them, its child, with such a mapping, for 2 N more, and so on:
# one day, through two rolling windows of a month, is 59 days. That is right for the days whose window the chosen ones fall into, but they are run whether or
# not the rest of their window is there: the widened days' own parent partitions are neither part of the backfill nor asked for
# (`allow_nonexistent_upstream_partitions` is False here), and the days before start of a first backfill are not added either.
# A child alone (its parent not selected) is backfilled for just the chosen days: the same days in the same form, another set of runs.
#
# Output that was seen (January days; `rolling` and `smoothed` each look 29 days back; nothing is materialized):
#   chosen 2026-01-10 of events, rolling, smoothed
#     events   2026-01-10 .. 2026-01-10 (1)
#     rolling  2026-01-10 .. 2026-02-08 (30)
#     smoothed 2026-01-10 .. 2026-03-09 (59)
#   chosen 2026-01-10 of rolling, smoothed
#     rolling  2026-01-10 .. 2026-01-10 (1)
#     smoothed 2026-01-10 .. 2026-02-08 (30)
#   chosen 2026-01-10 of smoothed
#     smoothed 2026-01-10 .. 2026-01-10 (1)
#   launched: the stored backfill of the first one targets events 1, rolling 30, smoothed 59
#
# Who meets it: whoever backfills a day (or a first week, with the history not there yet) of assets that sum over a rolling window.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dagster==1.13.27 dagster-graphql==1.13.27
export DAGSTER_HOME=$work/home DAGSTER_DISABLE_TELEMETRY=1
mkdir home
echo 'telemetry: {enabled: false}' >home/dagster.yaml
cat >pipeline.py <<'PY'
import dagster as dg

days = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-06-01")
month = dg.TimeWindowPartitionMapping(start_offset=-29, allow_nonexistent_upstream_partitions=False)


@dg.asset(partitions_def=days)
def events() -> None: ...


@dg.asset(partitions_def=days, deps=[dg.AssetDep(events, partition_mapping=month)])
def rolling() -> None: ...


@dg.asset(partitions_def=days, deps=[dg.AssetDep(rolling, partition_mapping=month)])
def smoothed() -> None: ...


defs = dg.Definitions(assets=[events, rolling, smoothed])
PY
venv/bin/python - <<'PY'
import json
import subprocess
from datetime import date

DAY = "2026-01-10"
PREVIEW = """query($params: AssetBackfillPreviewParams!) {
  assetBackfillPreview(params: $params) { assetKey { path } partitions { ranges { start end } } } }"""
LAUNCH = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) { __typename ... on LaunchBackfillSuccess { backfillId } } }"""
STORED = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { assetBackfillData {
  assetBackfillStatuses { ... on AssetPartitionsStatusCounts { assetKey { path } numPartitionsTargeted } } } } } }"""


def ask(query, **variables):
    command = ["venv/bin/dagster-graphql", "-f", "pipeline.py", "-t", query, "--variables", json.dumps(variables)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(next(line for line in answer.splitlines() if line.startswith("{")))["data"]


def chosen(*assets):
    return {"assetSelection": [{"path": [asset]} for asset in assets], "partitionNames": [DAY]}


def preview(*assets):
    print("chosen", DAY, "of", ", ".join(assets))
    days = {}
    for target in ask(PREVIEW, params=chosen(*assets))["assetBackfillPreview"]:
        (name,), (span,) = target["assetKey"]["path"], target["partitions"]["ranges"]
        days[name] = (date.fromisoformat(span["end"]) - date.fromisoformat(span["start"])).days + 1
        print(f"  {name:8} {span['start']} .. {span['end']} ({days[name]})")
    return days


assert preview("events", "rolling", "smoothed") == {"events": 1, "rolling": 30, "smoothed": 59}
assert preview("rolling", "smoothed") == {"rolling": 1, "smoothed": 30}
assert preview("smoothed") == {"smoothed": 1}
launched = ask(LAUNCH, params=chosen("events", "rolling", "smoothed"))["launchPartitionBackfill"]["backfillId"]
statuses = ask(STORED, id=launched)["partitionBackfillOrError"]["assetBackfillData"]["assetBackfillStatuses"]
stored = {status["assetKey"]["path"][0]: status["numPartitionsTargeted"] for status in statuses}
print("launched: the stored backfill of the first one targets", ", ".join(f"{name} {count}" for name, count in stored.items()))
assert stored == {"events": 1, "rolling": 30, "smoothed": 59}
PY
echo "as described"
