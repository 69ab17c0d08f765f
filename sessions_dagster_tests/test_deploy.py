"""The files in `deploy`, as far as they can be checked without a container: they agree with the project."""

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import dagster as dg
import yaml  # type: ignore[import-untyped]
from dagster._core.instance.config import dagster_instance_config

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def test_the_deployed_instance_is_the_one_of_the_checkout_with_postgres() -> None:
    deployed, _ = dagster_instance_config(str(DEPLOY))
    of_checkout, _ = dagster_instance_config(str(DEPLOY / "local"))
    assert list(deployed["storage"]) == ["postgres"]
    # SQLAlchemy's own default is another driver since 2.1, and dagster-postgres does not work with that.
    assert deployed["storage"]["postgres"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
    for name in ("concurrency", "run_retries", "run_monitoring", "telemetry"):
        assert deployed[name] == of_checkout[name]


def test_the_image_installs_extras_that_there_are() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (extras,) = re.findall(r"'\.\[(.+)\]'", (DEPLOY / "Dockerfile").read_text())
    assert set(extras.split(",")) <= set(setup["options.extras_require"])


def test_every_copied_file_is_there() -> None:
    for copied in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())


def test_the_daemon_is_started_only_when_the_pool_has_its_limit() -> None:
    limit, daemon = "dagster instance concurrency set warehouse 1", "dagster-daemon run"
    for name in ("compose.yaml", "systemd/sessions-daemon.service"):
        text = (DEPLOY / name).read_text()
        assert 0 < text.index(limit) < text.index(daemon)


def test_no_file_has_a_password() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".py":
            assert not re.findall(
                r"(?im)^\s*[A-Z_]*(?:PASSWORD|TOKEN|WEBHOOK_URL)\s*[=:][ \t]*(?!\$|\{env)\S+", path.read_text()
            )


def examples(language: str) -> list[str]:
    """The examples in a language in docs/deploy.md."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_manifest_of_the_spark_operator_runs_a_command_that_there_is() -> None:
    (text,) = examples("yaml")
    manifest = yaml.safe_load(text)
    assert (manifest["apiVersion"], manifest["kind"]) == ("sparkoperator.k8s.io/v1beta2", "SparkApplication")
    command, *days = manifest["spec"]["arguments"]
    assert (command, days) == ("land", ["--date", "2025-09-20"])
    names = {each["name"] for each in manifest["spec"]["driver"]["env"]}
    assert names == {"SESSIONS_INPUT_ROOT", "SESSIONS_WAREHOUSE_ROOT"}


def test_the_example_of_pipes_loads() -> None:
    (text,) = examples("python")
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    defs = dg.Definitions([namespace["landed"]], resources={"pipes": dg.PipesSubprocessClient()})
    dg.Definitions.validate_loadable(defs)
