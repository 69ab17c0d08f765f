"""The channels of alerts, each with a real receiver on the loopback interface, and what is kept if one is down."""

import json
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_dagster.alerts import channels, outbox
from sessions_dagster.alerts.channels import Channel, Command, DeliveryError, Email, Webhook
from sessions_dagster.alerts.message import Alert, first_sentence
from sessions_dagster.alerts.outbox import MAX_WAITING, deliver
from sessions_dagster.alerts.settings import AlertSettings
from sessions_dagster.config import SessionsConfig
from sessions_dagster.defs.slack import Slack
from sessions_dagster.errors import SettingsError
from sessions_dagster_tests.receivers import (
    HttpReceiver,
    MailReceiver,
    closed_port,
    http_receiver,
    mail_receiver,
)

ALERT = Alert(
    kind="failed_run",
    error="The batch folder /data/date=2025-09-20 has no data file.",
    partitions=("2025-09-20",),
    assets=("raw_events",),
    url="https://dagster.example.com/runs/1234",
    job="__ASSET_JOB",
    run_id="1234",
)

SECRET = "s3cr3t-Tok3n"

LOG = logging.getLogger("alerts-test")


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    with mail_receiver() as receiver:
        yield receiver


def test_a_webhook_gets_all_of_an_alert_as_json(http: HttpReceiver) -> None:
    Webhook(f"{http.url}/hook").send(ALERT)
    (body,) = http.alerts
    assert body["kind"] == "failed_run"
    assert body["title"] == "Failed run: raw_events, 2025-09-20"
    assert body["error"] == ALERT.error
    assert (body["partitions"], body["assets"], body["job"]) == (["2025-09-20"], ["raw_events"], "__ASSET_JOB")
    assert body["url"].endswith("/runs/1234")
    assert http.paths == ["/hook"]


def test_a_command_gets_the_same_on_its_standard_input(tmp_path: Path) -> None:
    got = tmp_path / "got.json"
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    Command((sys.executable, "-c", code, str(got))).send(ALERT)
    assert json.loads(got.read_text()) == json.loads(json.dumps(ALERT.as_json()))


def test_an_e_mail_has_the_title_as_its_subject_and_all_else_in_its_text(mail: MailReceiver) -> None:
    Email(f"smtp://{mail.address}", "lake@example.com", ("ada@example.com", "bob@example.com")).send(ALERT)
    (message,) = mail.messages
    assert message["Subject"] == "Failed run: raw_events, 2025-09-20"
    assert message["To"] == "ada@example.com, bob@example.com"
    assert mail.recipients == ["ada@example.com", "bob@example.com"]
    text = message.get_content()
    assert ALERT.error in text
    assert ALERT.url in text


def test_a_slack_channel_gets_the_text(http: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    slack = import_module("dagster_slack")
    original = slack.SlackResource.get_client

    def client_of_receiver(resource: Any) -> Any:
        client = original(resource)
        client.base_url = f"{http.url}/api/"
        return client

    monkeypatch.setattr(slack.SlackResource, "get_client", client_of_receiver)
    Slack("#data", SECRET).send(ALERT)
    (form,) = http.forms
    assert (form["channel"], form["text"]) == ("#data", ALERT.text)
    assert http.paths == ["/api/chat.postMessage"]


def test_without_its_library_slack_is_refused_at_the_start_by_the_name_of_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "dagster_slack", None)
    with pytest.raises(SettingsError, match=re.escape("install sessions-dagster[alerts]")):
        Slack("#data", SECRET)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 503])
def test_only_an_answer_of_2xx_is_a_delivery(http: HttpReceiver, status: int) -> None:
    http.status, http.location = status, f"{http.url}/elsewhere"
    with pytest.raises(DeliveryError, match=f"the answer was {status}"):
        Webhook(http.url).send(ALERT)


def test_a_password_is_not_sent_to_a_server_that_does_not_encrypt(mail: MailReceiver) -> None:
    with pytest.raises(DeliveryError, match="was not given the password"):
        Email(f"smtp://lake:{SECRET}@{mail.address}", "lake@example.com", ("ada@example.com",)).send(ALERT)
    assert not [command for command in mail.commands if command.upper().startswith("AUTH")]


def down_channels() -> list[Channel]:
    port = closed_port()
    return [
        Webhook(f"http://user:{SECRET}@127.0.0.1:{port}/{SECRET}"),
        Webhook(f"http://{SECRET}.invalid/"),
        Email(f"smtp://lake:{SECRET}@127.0.0.1:{port}", "lake@example.com", ("ada@example.com",)),
        Command((sys.executable, "-c", f"import sys; sys.exit('{SECRET}')")),
        Command((f"no-such-program-{SECRET}",)),
    ]


@pytest.mark.parametrize("number", range(5))
def test_an_error_of_a_channel_never_has_a_secret_in_it(number: int, caplog: pytest.LogCaptureFixture) -> None:
    channel = down_channels()[number]
    with caplog.at_level(logging.DEBUG):
        assert deliver({}, [ALERT], [channel], LOG) == {channel.name: [ALERT]}
    assert "cannot be delivered" in caplog.text
    assert SECRET not in caplog.text


def test_settings_never_show_a_secret() -> None:
    alerts = AlertSettings(
        webhook_url=f"https://hooks.example.com/{SECRET}",
        slack_channel="#data",
        slack_token=SECRET,
        email_to=("ada@example.com",),
        email_from="lake@example.com",
        smtp_url=f"smtps://lake:{SECRET}@mail.example.com",
    )
    assert SECRET not in repr(SessionsConfig(start_date="2025-09-01", alerts=alerts))


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("WEBHOOK_URL", {"WEBHOOK_URL": f"hooks.example.com/{SECRET}"}),
        ("WEBHOOK_URL", {"WEBHOOK_URL": f"ftp://hooks.example.com/{SECRET}"}),
        ("WEBHOOK_URL", {"WEBHOOK_URL": f"https://a:port/{SECRET}"}),
        ("SMTP_URL", {"SMTP_URL": f"mail.example.com:{SECRET}"}),
        ("COMMAND", {"COMMAND": f"echo '{SECRET}"}),
        ("COMMAND", {"COMMAND": f"nope-{SECRET}"}),
        ("COMMAND", {"COMMAND": f"/nope/{SECRET} x"}),
        ("COMMAND", {"COMMAND": __file__}),
        ("COMMAND", {"COMMAND": "/tmp"}),
        ("SLACK_TOKEN", {"SLACK_CHANNEL": "#data"}),
        ("SLACK_CHANNEL", {"SLACK_TOKEN": SECRET}),
        ("SLACK_CHANNEL", {"SLACK_CHANNEL": "'#data'", "SLACK_TOKEN": SECRET}),
        ("SLACK_TOKEN", {"SLACK_CHANNEL": "#data", "SLACK_TOKEN": f'"{SECRET}"'}),
        ("EMAIL_TO", {"EMAIL_TO": '"ada@example.com"', "EMAIL_FROM": "a@b.c", "SMTP_URL": "smtp://mail"}),
        ("EMAIL_FROM", {"EMAIL_TO": "ada@example.com", "EMAIL_FROM": "'a@b.c'", "SMTP_URL": "smtp://mail"}),
        ("EMAIL_TO", {"EMAIL_TO": "ada", "EMAIL_FROM": "a@b.c", "SMTP_URL": "smtp://mail"}),
        ("EMAIL_FROM", {"EMAIL_TO": "ada@example.com", "SMTP_URL": f"smtp://lake:{SECRET}@mail"}),
        ("SMTP_URL", {"EMAIL_TO": "ada@example.com", "EMAIL_FROM": "a@b.c"}),
        ("UI_URL", {"UI_URL": "dagster"}),
        ("UI_URL", {"UI_URL": f"https://dagster.example.com/?token={SECRET}"}),
        ("UI_URL", {"UI_URL": f"https://dagster.example.com/#{SECRET}"}),
        ("UI_URL", {"UI_URL": f"https://lake:{SECRET}@dagster.example.com"}),
        ("WEBHOOK_URL", {"WEBHOOK_URL": f"https://lake:{SECRET}@hooks.example.com"}),
        ("WEBHOOK_URL", {"WEBHOOK_URL": f"https://hooks..example.com/{SECRET}"}),
        ("WEBHOOK_URL", {"WEBHOOK_URL": f"https://hooks.example.com:0/{SECRET}"}),
        ("WEBHOOK_URL", {"WEBHOOK_URL": f"https://hooks.example.com/ü{SECRET}"}),
        ("WEBHOOK_URL", {"WEBHOOK_URL": f"https://hooks.example.com/\x7f{SECRET}"}),
        ("EMAIL_TO", {"EMAIL_TO": "@example.com", "EMAIL_FROM": "a@b.c", "SMTP_URL": "smtp://mail"}),
        ("EMAIL_TO", {"EMAIL_TO": "a@b.c;d@e.f", "EMAIL_FROM": "a@b.c", "SMTP_URL": "smtp://mail"}),
        ("EMAIL_FROM", {"EMAIL_TO": "a@b.c", "EMAIL_FROM": "lake@", "SMTP_URL": f"smtp://lake:{SECRET}@mail"}),
        ("EMAIL_FROM", {"EMAIL_TO": "a@b.c", "EMAIL_FROM": "Lake <a@b.c>", "SMTP_URL": "smtp://mail"}),
        ("SMTP_URL", {"EMAIL_TO": "a@b.c", "EMAIL_FROM": "a@b.c", "SMTP_URL": f"smtp://lake:{SECRET}@mail..com"}),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(name: str, variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as error:
        SessionsConfig.from_env({f"SESSIONS_ALERT_{key}": text for key, text in variables.items()})
    assert re.fullmatch(rf"SESSIONS_ALERT_{name} \(alerts\) must be .+\.", str(error.value))
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("words", ["w", "curl https://hooks.example.com", "ada@example.com"])
@pytest.mark.parametrize("name", ["command", "email_to"])
def test_a_text_is_not_taken_for_a_list_of_letters(name: str, words: str) -> None:
    wrong: dict[str, Any] = {name: words}
    with pytest.raises(SettingsError, match=re.escape(f"{name} (alerts) must be")):
        AlertSettings(**wrong)


@pytest.mark.parametrize(
    "url", ["HTTPS://hooks.example.com:8443/a?b=%C3%BC", "http://[::1]:80/x", "http://xn--bro-hoa.example/"]
)
def test_a_url_that_a_request_can_be_sent_to(url: str) -> None:
    assert AlertSettings(webhook_url=url).webhook_url == url


def alerts(count: int) -> list[Alert]:
    return [Alert("failed_run", f"Error {number}.", (), ("sessions",), "http://ui/runs") for number in range(count)]


def test_a_receiver_that_is_down_holds_up_no_other_and_gets_everything_in_order_when_it_is_back(
    http: HttpReceiver, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    code = "import sys, json; open(sys.argv[1], 'a').write(json.load(sys.stdin)['error'])"
    both: list[Channel] = [Webhook(http.url), Command((sys.executable, "-c", code, str(log)))]
    first, second, third = alerts(3)
    http.status = 503
    waiting = deliver({}, [first, second], both, LOG)
    assert waiting == {"webhook": [first, second]}
    assert log.read_text() == "Error 0.Error 1."
    # A channel that fails is asked once a tick, not once an alert.
    assert len(http.bodies) == 1
    http.status, http.bodies = 200, []
    assert deliver(waiting, [third], both, LOG) == {}
    assert [body["error"] for body in http.alerts] == ["Error 0.", "Error 1.", "Error 2."]
    assert log.read_text() == "Error 0.Error 1.Error 2."


def test_a_command_may_leave_something_running(tmp_path: Path) -> None:
    started = time.monotonic()
    Command(("sh", "-c", f"sleep 3 & echo $! > {tmp_path}/pid")).send(ALERT)
    assert time.monotonic() - started < 2
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "TIMEOUT_SECONDS", 0.5)
    with pytest.raises(DeliveryError, match=re.escape("it took longer than 0.5 s")):
        Command(("sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait")).send(ALERT)
    pid = (tmp_path / "pid").read_text().strip()
    give_up_at = time.monotonic() + 5
    while not has_ended(pid) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert has_ended(pid)


def has_ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] in "ZX"
    except OSError:
        return True


def test_a_receiver_that_answers_byte_by_byte_holds_up_no_tick(
    http: HttpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "SEND_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with suppress(OSError), connection:
                for byte in b"HTTP/1.1 200 OK and so on, and on, and on":
                    connection.send(bytes([byte]))
                    time.sleep(0.1)

        threading.Thread(target=answer, daemon=True).start()
        slow = Webhook(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}", "slow")
        began = time.monotonic()
        assert deliver({}, [ALERT], [slow, Webhook(http.url)], LOG) == {"slow": [ALERT]}
        assert time.monotonic() - began < 3
    assert len(http.bodies) == 1
    assert "it took longer than 0.5 s" in caplog.text
    assert SECRET not in caplog.text


class Broken:
    """A channel with a fault of its own."""

    name = "broken"

    def send(self, alert: Alert) -> None:
        raise KeyError(SECRET, alert)


def test_a_channel_that_is_broken_holds_up_no_other(http: HttpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    assert deliver({}, [ALERT], [Broken(), Webhook(http.url)], LOG) == {"broken": [ALERT]}
    assert len(http.bodies) == 1
    assert "KeyError" in caplog.text
    assert SECRET not in caplog.text


def test_what_waits_is_bounded_and_the_oldest_is_dropped_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    many = alerts(MAX_WAITING + 5)
    channel = Webhook(f"http://127.0.0.1:{closed_port()}")
    assert deliver({}, many, [channel], LOG) == {"webhook": many[5:]}
    assert "The oldest 5 are dropped." in caplog.text


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("The batch folder x has no data file. Deliver it.", "The batch folder x has no data file."),
        ("errors.BatchError: File /a/b.c.parquet, line 1.5 is wrong", "File /a/b.c.parquet, line 1.5 is wrong"),
        ("ValueError: no point\n  at somewhere", "no point"),
        ("pyspark.errors.AnalysisException: [X] Y. Z", "[X] Y."),
        ("Two batches. One", "Two batches."),
        (
            "py4j.protocol.Py4JJavaError: An error occurred while calling o42.save.\n: "
            "org.apache.spark.SparkException: Job aborted: no space left\n\tat org.apache.spark.X",
            "Job aborted: no space left",
        ),
        ("An error occurred while calling o42.save. Trace:\npy4j.Py4JException: No such method. At", "No such method."),
        ("An error occurred while calling z:org.apache.X.y.\n: java.lang.Exception: Too late. Why", "Too late."),
        ("", ""),
    ],
)  # fmt: skip
def test_the_first_sentence_of_an_error(message: str, sentence: str) -> None:
    assert first_sentence(message) == sentence


@given(st.text(st.characters()))
def test_the_first_sentence_is_one_short_line_that_can_be_written(message: str) -> None:
    found = first_sentence(message)
    found.encode()
    assert len(found) <= 500
    assert "\n" not in found


@pytest.mark.parametrize(
    "wrong", [{"kind": "unheard_of"}, {"kind": None}, {"partitions": [1]}, {"assets": None}, {"unknown": 1}]
)
def test_what_no_channel_could_tell_is_no_alert(wrong: dict[str, Any]) -> None:
    line = json.dumps(json.loads(ALERT.to_line()) | wrong)
    with pytest.raises(ValueError, match="not an alert"):
        Alert.from_line(line)


@given(st.text(), st.lists(st.text()), st.none() | st.text())
def test_an_alert_that_waits_is_read_back_as_it_was(error: str, partitions: list[str], run_id: str | None) -> None:
    alert = Alert("failed_run", error, tuple(partitions), ("sessions",), "http://ui", run_id=run_id)
    assert Alert.from_line(alert.to_line()) == alert
