"""The start-up check of Spark, Delta and Scala, and what the metadata of the package says of them."""

import re
from ast import literal_eval
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from typing import Final

import pyspark
import pytest
from packaging.requirements import Requirement

from sessions_dagster.errors import SparkStartError
from sessions_dagster.spark.versions import (
    LANES,
    check_connect,
    check_s3,
    check_versions,
    installed_delta,
    installed_lane,
)

SETUP: Final = Path(__file__).parents[1] / "setup.cfg"


def of_noxfile(name: str) -> tuple[str, ...]:
    """A constant of noxfile.py, which needs nox to be imported."""
    text = (SETUP.parent / "noxfile.py").read_text()
    (value,) = re.findall(rf"^{name}: Final = (\(.+\))$", text, re.MULTILINE)
    found: tuple[str, ...] = literal_eval(value)
    return found


SPARKS: Final = of_noxfile("SPARKS")
PYTHONS: Final = of_noxfile("PYTHONS")
DELTA: Final = "4.4.0"


def spark_home(folder: Path, core: str) -> Path:
    """A home of Spark with one JAR."""
    (folder / "jars").mkdir()
    (folder / "jars" / core).touch()
    return folder


def requirement(name: str) -> Requirement:
    setup = ConfigParser()
    setup.read(SETUP)
    lines = setup["options"]["install_requires"].splitlines()
    (found,) = [each for each in map(Requirement, filter(None, lines)) if each.name == name]
    return found


def test_what_is_installed_goes_together() -> None:
    check_versions(pyspark.__version__, installed_delta(), Path(pyspark.__file__).parent, None)


@pytest.mark.parametrize("line", LANES)
def test_each_lane_is_accepted(line: str, tmp_path: Path) -> None:
    scala, delta, jar = {
        "3.5": ("2.12", "3.3.3", "delta-spark_2.12-3.3.3.jar"),
        "4.0": ("2.13", DELTA, "delta-spark_4.0_2.13-4.4.0.jar"),
        "4.1": ("2.13", DELTA, "delta-spark_4.1_2.13-4.4.0.jar"),
        "4.2": ("2.13", DELTA, "delta-spark_4.2_2.13-4.4.0.jar"),
    }[line]
    home = spark_home(tmp_path, f"spark-core_{scala}-{line}.9.jar")
    for jars in (None, f"/x/{jar},/x/delta-storage-{delta}.jar", "/x/our-own.jar"):
        check_versions(f"{line}.9", delta, home, jars)


@pytest.mark.parametrize(
    ("spark", "delta", "parts"),
    [
        ("3.4.4", "2.4.0", ("Spark 3.4.4 is not one of those", "'pyspark==4.2.*' 'delta-spark>=4.4,<4.5,!=4.4.1'")),
        ("3.5.1", "3.2.0", ("Spark 3.5.1 and Delta 3.2.0", "'pyspark==3.5.*' 'delta-spark>=3.3,<3.4,!=3.3.0")),
        ("3.5.9", "3.3.2", ("Spark 3.5.9 and Delta 3.3.2",)),
        ("3.5.9", DELTA, ("Spark 3.5.9 and Delta 4.4.0",)),
        ("5.0.0", DELTA, ("Spark 5.0.0 is not one of those",)),
        ("5.0.0.dev1", DELTA, ("Spark 5.0.0.dev1 is not one of those",)),
        ("4.0.5", "4.0.1", ("Spark 4.0.5 and Delta 4.0.1", "'pyspark==4.0.*' 'delta-spark>=4.4,<4.5,!=4.4.1'")),
        ("4.2.0", "3.3.3", ("Spark 4.2.0 and Delta 3.3.3",)),
        ("4.2.0", "4.4.1", ("Spark 4.2.0 and Delta 4.4.1",)),
        ("4.2.0", "4.5.0", ("Spark 4.2.0 and Delta 4.5.0",)),
    ],
)
def test_a_pair_that_does_not_go_together_is_refused_with_what_to_install(
    spark: str, delta: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(SparkStartError) as error:
        check_versions(spark, delta, tmp_path, None)
    assert all(part in str(error.value) for part in (*parts, "pip install"))


@pytest.mark.parametrize("core", ["2.12-3.5.9", "2.13-4.1.4", "2.12-4.2.0"])
def test_another_spark_in_spark_home_is_refused(core: str, tmp_path: Path) -> None:
    with pytest.raises(SparkStartError, match=r"The Python package is pyspark 4\.2\.0, but .* \(SPARK_HOME\) is"):
        check_versions("4.2.0", DELTA, spark_home(tmp_path, f"spark-core_{core}.jar"), None)


@pytest.mark.parametrize(
    "jar",
    [
        "delta-spark_4.1_2.13-4.4.0.jar",
        "io.delta_delta-spark_4.2_2.12-4.4.0.jar",
        "delta-spark_4.2_2.13-4.4.1.jar",
        "delta-spark_2.12-3.3.3.jar",
    ],
)
def test_a_jar_of_another_version_is_refused_by_its_name(jar: str, tmp_path: Path) -> None:
    with pytest.raises(SparkStartError, match=rf"The JAR {jar} does not belong to .*delta-spark_4\.2_2\.13-4\.4\.0"):
        check_versions("4.2.0", DELTA, tmp_path, f"s3a://jars/delta-storage-4.4.0.jar,s3a://jars/{jar}")


@pytest.mark.parametrize(
    ("jar", "wanted"),
    [
        ("delta-spark_2.13-3.3.3.jar", "delta-spark_2.12-3.3.3.jar"),
        ("delta-spark_4.0_2.13-4.4.0.jar", "delta-spark_2.12-3.3.3.jar"),
    ],
)
def test_a_jar_of_spark_4_is_refused_for_spark_3(jar: str, wanted: str, tmp_path: Path) -> None:
    with pytest.raises(SparkStartError, match=rf"The JAR {jar} does not .* Scala 2\.12 .* {wanted}"):
        check_versions("3.5.9", "3.3.3", tmp_path, f"/jars/{jar}")


@pytest.mark.parametrize(("check", "thing"), [(check_connect, "Spark Connect"), (check_s3, "Folders on S3")])
def test_spark_3_is_refused_where_only_spark_4_is_used(check: Callable[[str], None], thing: str) -> None:
    with pytest.raises(SparkStartError, match=rf"^{thing} .* Spark 4 only, and pyspark is 3\.5\.9.*pip install"):
        check("3.5.9")
    for spark in SPARKS[1:]:
        check(spark)


def test_what_is_installed_is_what_the_metadata_allows() -> None:
    assert installed_delta() in requirement("delta-spark").specifier
    assert pyspark.__version__ in requirement("pyspark").specifier
    assert installed_lane().spark == ".".join(pyspark.__version__.split(".")[:2])


@pytest.mark.parametrize(
    ("name", "newest_line_of_3", "passed"), [("pyspark", 5, set(SPARKS)), ("delta-spark", 3, {"3.3.3", DELTA})]
)
def test_the_metadata_allows_what_the_lanes_passed_with_and_no_other_release(
    name: str, newest_line_of_3: int, passed: set[str]
) -> None:
    lines = [*(f"3.{minor}" for minor in range(newest_line_of_3 + 1)), *(f"4.{minor}" for minor in range(6)), "5.0"]
    releases = {f"{line}.{number}" for line in lines for number in range(10)}
    releases |= {f"3.5.{number}" for number in range(10, 13)} if name == "pyspark" else set()
    allowed = requirement(name).specifier
    assert {release for release in releases if release in allowed} == passed


def test_the_check_accepts_what_the_metadata_allows_of_delta() -> None:
    assert {lane.delta for lane in LANES.values()} == {"3.3", DELTA.rpartition(".")[0]}
    assert not {"3.3.3", DELTA} & {release for lane in LANES.values() for release in lane.unusable}


def test_there_is_a_lane_for_each_line_of_spark_and_each_python_that_the_metadata_names() -> None:
    setup = ConfigParser()
    setup.read(SETUP)
    named = re.findall(r"Python :: (\d\.\d+)$", setup["metadata"]["classifiers"], re.MULTILINE)
    assert [spark.rpartition(".")[0] for spark in SPARKS] == list(LANES)
    assert list(PYTHONS) == named


def test_the_pinned_versions_are_those_of_the_newest_lane() -> None:
    pins = dict(
        line.split("==") for line in (SETUP.parent / "constraints.txt").read_text().splitlines() if "==" in line
    )
    assert pins["pyspark"] == SPARKS[-1]
    assert pins["delta_spark"].startswith(f"{LANES[SPARKS[-1].rpartition('.')[0]].delta}.")
