"""Audit and rebuild after users were forgotten: nothing differs, and nobody comes back."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.errors import ConcurrentWriteError
from sessions_dagster.model.rules import SessionRules
from sessions_dagster.pipeline import rebuild as rebuild_module
from sessions_dagster.pipeline import refresh_sessions as refresh_module
from sessions_dagster.pipeline.audit import audit
from sessions_dagster.pipeline.rebuild import rebuild
from sessions_dagster.storage.warehouse import Warehouse
from sessions_dagster_tests.test_forget import ANN, D18, D19, D20, OTHERS, ForgetfulWorld, action

USER, OTHER = ANN, OTHERS[0]


@pytest.fixture(scope="module")
def before(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> ForgetfulWorld:
    """Batches of two users; the second one corrects a session of each."""
    world = ForgetfulWorld(spark, tmp_path_factory.mktemp("before"))
    world.land(D18, [action(user, D18, minute) for user in (USER, OTHER) for minute in (0, 30)])
    world.materialize(D18)
    world.land(D19, [action(user, D18, 33) for user in (USER, OTHER)])
    world.materialize(D19)
    world.refresh()
    return world


@pytest.fixture
def world(before: ForgetfulWorld, tmp_path: Path) -> ForgetfulWorld:
    return before.copy_to(tmp_path)


def rebuilt(world: ForgetfulWorld) -> None:
    rebuild(world.spark, Warehouse(world.warehouse.root), SessionRules(), dry_run=False)


def damage(world: ForgetfulWorld) -> None:
    """Somebody deletes an event of the other user, so that a rebuild has something to do."""
    DeltaTable(world.warehouse.sessionized_events).delete(f"user_id = '{OTHER}' AND timestamp = '2025-09-18 12:33:00'")


def test_an_audit_finds_nothing_after_users_were_forgotten(world: ForgetfulWorld) -> None:
    world.forget(USER)
    report = audit(world.spark, Warehouse(world.warehouse.root))
    assert (report.count, report.pending) == (0, ())
    report.check()


def test_a_rebuild_brings_no_forgotten_user_back(world: ForgetfulWorld) -> None:
    versions = world.versions()
    world.forget(USER)
    damage(world)
    rebuilt(world)
    world.assert_exact()
    for table in ("sessionized_events", "sessions"):
        world.spark.sql(f"RESTORE delta.`{world.warehouse.root}/{table}` TO VERSION AS OF {versions[table]}")
    rebuilt(world)
    world.assert_exact()
    assert not any(world.forget().removed.values())


def forgets(world: ForgetfulWorld) -> None:
    world.forget(USER)


def corrects(world: ForgetfulWorld) -> None:
    world.land(D20, [action(user, D18, 37) for user in (USER, OTHER)])
    world.materialize(D20)


@pytest.fixture
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an object store."""
    monkeypatch.setattr(Warehouse, "locked", lambda _: nullcontext())
    monkeypatch.setattr(Warehouse, "_locked_in_java", lambda *_: nullcontext())


def run_before(patched: pytest.MonkeyPatch, module: ModuleType, step: str, other: Callable[[], object]) -> None:
    """Let another run begin and end before the first call of a function of a module."""
    original = getattr(module, step)

    def after_the_other(*arguments: Any, **named: Any) -> Any:
        patched.setattr(module, step, original)
        other()
        return original(*arguments, **named)

    patched.setattr(module, step, after_the_other)


@pytest.mark.usefixtures("nobody_waits")
def test_sessions_that_follow_meanwhile_bring_nobody_back(
    world: ForgetfulWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_before(monkeypatch, refresh_module, "ensure_table", lambda: world.forget(USER))
    refresh_module.refresh_sessions(world.spark, Warehouse(world.warehouse.root))
    world.assert_exact()


@pytest.mark.usefixtures("nobody_waits")
@pytest.mark.parametrize(
    ("step", "other"),
    [("ensure_sessionized_events", forgets), ("drop_uncommitted", forgets), ("ensure_sessionized_events", corrects)],
)
def test_another_run_during_a_rebuild_loses_nothing_and_brings_nobody_back(
    world: ForgetfulWorld, monkeypatch: pytest.MonkeyPatch, step: str, other: Callable[[ForgetfulWorld], None]
) -> None:
    damage(world)
    with monkeypatch.context() as patched, suppress(ConcurrentWriteError):
        run_before(patched, rebuild_module, step, lambda: other(world))
        rebuilt(world)
    assert not {row.user for row in world.table()} & world.forgotten
    world.materialize(D18, max(world.landed))
    rebuilt(world)
    world.assert_exact()
    told = [correction._replace(version=0) for correction in world.corrections()]
    assert len(told) == len(set(told))
