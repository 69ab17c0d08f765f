"""Whatever ids, names and values of a sender look like, they stay data: in the tables, in logs, messages and alerts."""

import json
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import example, given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sessions_dagster.alerts.channels import Command, Email, Webhook
from sessions_dagster.alerts.message import Alert, first_sentence
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs import build_defs
from sessions_dagster.defs.slack import Slack
from sessions_dagster.errors import BatchError, one_line
from sessions_dagster.input.folders import InputRoot, delivery
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline.check_tables import check_events
from sessions_dagster.pipeline.land import land_batch
from sessions_dagster.pipeline.summaries import landing_summary
from sessions_dagster.storage.maintenance import compact
from sessions_dagster_tests.builders import World, landed_events, sessions_of
from sessions_dagster_tests.corrections import compare_corrections
from sessions_dagster_tests.hostile import IN_NAMES, TEXTS
from sessions_dagster_tests.oracle import Event, sessionize
from sessions_dagster_tests.receivers import http_receiver, mail_receiver

DAY: Final = date(2025, 9, 20)
NOON: Final = datetime(2025, 9, 20, 12)
ACTIONS: Final = frozenset({"a", "${env:HOME}", "'; DROP TABLE sessions; --", "\x1b[2J\x1b[31mred\x1b[0m"})
"""User actions of a product: they are in the properties of a table, and in every query."""

OWN: Final = {text: f"value of {text}" for text in TEXTS if text not in {"x" * 5000}}


def rows(late: bool = False) -> list[Event]:
    """Rows in which each text is a user, an event and a product."""
    at = NOON + timedelta(minutes=4 if late else 0)
    users = [Event(text, "a", "idea", at) for text in TEXTS]
    events = [Event("user", text, "idea", at + timedelta(seconds=number)) for number, text in enumerate(TEXTS)]
    products = [Event("user", "a", text, at) for text in TEXTS]
    return [*users, *events, *products]


def write(world: World, day: date, events: list[Event], name: str = "events.parquet") -> Path:
    """Write a batch whose rows have many columns of the sender's own, and one row that is rejected."""
    folder = Path(world.input.batch_folder(day))
    folder.mkdir(parents=True, exist_ok=True)
    rejected = Event("'; DROP TABLE rejected_events; --", "a", "<script>", datetime(2020, 1, 1))
    all_rows = [*events, rejected]
    columns = {
        "user_id": [row.user for row in all_rows],
        "event_id": [row.event for row in all_rows],
        "product_code": [row.product for row in all_rows],
        "timestamp": [row.at.replace(tzinfo=UTC) for row in all_rows],
        **{column: [value] * len(all_rows) for column, value in OWN.items()},
    }
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def land(world: World, day: date, events: list[Event]) -> None:
    write(world, day, events)
    now = datetime.now(UTC)
    land_batch(world.spark, world.input, world.warehouse, day, "parquet", landed_at=now, rules=world.rules)
    world.landed[day] = events


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """All texts landed as users, events and products, and were corrected by a late batch; then all was compacted."""
    world = World(spark, tmp_path_factory.mktemp("it's ${env:HOME} {0}"), SessionRules(user_action_ids=ACTIONS))
    land(world, DAY, rows())
    world.materialize(DAY)
    land(world, DAY + timedelta(days=1), rows(late=True))
    world.materialize(DAY + timedelta(days=1))
    world.refresh()
    for table in world.warehouse.tables:
        compact(spark, world.warehouse, table)
    return world


def test_all_tables_are_what_the_oracle_says(world: World) -> None:
    events = world.all_events()
    expected = sessionize(events, user_actions=ACTIONS)
    assert Counter(landed_events(world.warehouse.raw_events)) == Counter(events)
    assert Counter(world.table()) == Counter(expected)
    assert Counter(world.sessions()) == Counter(sessions_of(expected, ACTIONS))
    corrections = compare_corrections(world.warehouse, ACTIONS)
    assert corrections.found == corrections.expected
    assert len(world.corrections()) >= 2 * len(TEXTS)


def test_a_rejected_row_has_all_of_the_senders_columns_as_they_were(world: World) -> None:
    rejected = DeltaTable(world.warehouse.rejected_events).to_pyarrow_table().to_pylist()
    assert len(rejected) == 2
    for row in rejected:
        assert (row["user_id"], row["product_code"]) == ("'; DROP TABLE rejected_events; --", "<script>")
        record = json.loads(row["record"])
        assert {name: record[name] for name in OWN} == OWN


def test_the_checks_find_nothing(world: World) -> None:
    found = check_events(world.spark, world.warehouse, DAY, DAY + timedelta(days=1), DAY)
    assert [finding for finding in found.findings if finding.offenders] == []


def test_files_and_folders_with_such_names_land_and_what_is_said_of_them_is_one_line_each(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = World(spark, tmp_path)
    names = sorted({name for name in IN_NAMES if not name.startswith((".", "_"))})
    for number, name in enumerate(names):
        file = write(world, DAY, [Event("ada", "a", "idea", NOON + timedelta(seconds=number))])
        (file.parent / f"in {name}").mkdir()
        file.rename(file.parent / f"in {name}" / f"{name}.parquet")
        (file.parent / f"_{name}").write_bytes(b"left out")
    now = datetime.now(UTC)
    report = land_batch(spark, world.input, world.warehouse, DAY, "parquet", landed_at=now, rules=world.rules)
    assert (report.accepted, report.files) == (len(names), len(names))
    assert sorted(report.left_out) == sorted(one_line(f"_{name}") for name in names)
    assert is_one_plain_line(landing_summary(report))
    sources = DeltaTable(world.warehouse.rejected_events).to_pyarrow_table(columns=["source_file"])
    folder = world.input.batch_folder(DAY)
    assert sorted(sources["source_file"].to_pylist()) == sorted(f"{folder}/in {name}/{name}.parquet" for name in names)


@pytest.mark.parametrize("name", IN_NAMES, ids=ascii)
def test_an_error_about_a_file_with_such_a_name_is_one_line(tmp_path: Path, name: str) -> None:
    root = InputRoot(str(tmp_path))
    folder = Path(root.batch_folder(DAY))
    folder.mkdir()
    (folder / f"_{name}").write_bytes(b"left out")
    with pytest.raises(BatchError) as refused:
        delivery(root, DAY)
    assert is_one_plain_line(str(refused.value))
    assert one_line(f"_{name}") in str(refused.value)


def is_one_plain_line(text: str) -> bool:
    """Whether nothing in a text ends a line, or commands a terminal."""
    return not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", text)


@given(st.text())
@example("\x1b[31m\n\u202e")
def test_a_text_on_one_line_has_no_control_character_and_any_other_text_is_as_it_was(text: str) -> None:
    assert is_one_plain_line(one_line(text))
    if is_one_plain_line(text) and not re.search("[\u200e\u200f]", text):
        assert one_line(text) == text


def test_several_errors_are_a_line_each() -> None:
    assert str(BatchError("of a\nb", "of c\x1b[31m")) == "of a\\nb\nof c\\x1b[31m"


@pytest.fixture(params=[text for text in TEXTS if text.strip()], ids=ascii)
def alert(request: pytest.FixtureRequest) -> Alert:
    """An alert about an error that has one of the texts in it."""
    error = first_sentence(f"BatchError: The file /data/{request.param} has no rows")
    return Alert(
        "failed_run", error, ("2025-09-20",), ("raw_events",), "https://dagster.example.com/runs/1", "job", "1"
    )


def test_an_alert_says_it_on_one_line(alert: Alert) -> None:
    assert is_one_plain_line(alert.error)
    assert is_one_plain_line(alert.title)
    assert len(alert.text.splitlines()) == 3


def test_slack_shows_it_as_it_is(alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    slack = import_module("dagster_slack")
    original = slack.SlackResource.get_client
    with http_receiver() as http:

        def client_of_receiver(resource: Any) -> Any:
            client = original(resource)
            client.base_url = f"{http.url}/api/"
            return client

        monkeypatch.setattr(slack.SlackResource, "get_client", client_of_receiver)
        Slack("#data", "token").send(alert)
        (form,) = http.forms
    text = str(form["text"])
    assert "<" not in text
    assert ">" not in text
    assert text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == alert.text
    assert [str(form[name]).lower() for name in ("mrkdwn", "unfurl_links", "unfurl_media")] == ["false"] * 3
    assert form["parse"] == "none"


def test_mail_webhook_and_command_deliver_it_as_it_is(alert: Alert, tmp_path: Path) -> None:
    got = tmp_path / "got.json"
    with mail_receiver() as mail, http_receiver() as http:
        Email(f"smtp://{mail.address}", "lake@example.com", ("ada@example.com",)).send(alert)
        Webhook(f"{http.url}/hook").send(alert)
        Command(("/bin/sh", "-c", 'cat > "$1"', "sh", str(got))).send(alert)
        (message,), (body,) = mail.messages, http.alerts
    assert message.get_content_type() == "text/plain"
    assert message["Subject"] == alert.title
    assert alert.error in message.get_content().replace("\r\n", "\n")
    assert body == json.loads(got.read_text()) == json.loads(json.dumps(alert.as_json()))


@pytest.mark.parametrize("key", ["../2025-09-20", "2025-09-20/../..", "'; DROP TABLE x; --", "${env:HOME}"])
def test_a_partition_that_is_no_day_is_refused_before_anything_is_read(key: str, tmp_path: Path) -> None:
    config = SessionsConfig(start_date=DAY, input_root=str(tmp_path / "in"), warehouse_root=str(tmp_path / "lake"))
    job = build_defs(config).resolve_job_def("land_and_apply")
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(dg.DagsterError):
        job.execute_in_process(instance=instance, partition_key=key, raise_on_error=True)
    assert list(tmp_path.iterdir()) == []
