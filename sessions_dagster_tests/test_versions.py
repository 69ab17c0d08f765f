"""The start-up check of Spark, Delta and Scala, and what the metadata of the package says of them."""

from configparser import ConfigParser
from pathlib import Path
from typing import Final

import pyspark
import pytest
from packaging.requirements import Requirement

from sessions_dagster.errors import SparkStartError
from sessions_dagster.spark.versions import LANES, check_versions, installed_delta, installed_lane

SETUP: Final = Path(__file__).parents[1] / "setup.cfg"
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
    home = spark_home(tmp_path, f"spark-core_2.13-{line}.1.jar")
    for jars in (None, f"/x/delta-spark_{line}_2.13-{DELTA}.jar,/x/delta-storage-{DELTA}.jar", "/x/our-own.jar"):
        check_versions(f"{line}.1", DELTA, home, jars)


@pytest.mark.parametrize(
    ("spark", "delta", "parts"),
    [
        ("3.4.4", "2.4.0", ("Spark 3.4.4 is not one of those", "'pyspark==4.2.*' 'delta-spark>=4.4,<4.5,!=4.4.1'")),
        ("3.5.9", "3.3.3", ("Spark 3.5.9 is not one of those",)),
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


def test_the_metadata_allows_what_the_check_accepts() -> None:
    lane = installed_lane()
    delta = requirement("delta-spark").specifier
    assert installed_delta() in delta
    assert all(f"{lane.delta}.0" in delta for lane in LANES.values())
    assert not any(release in delta for lane in LANES.values() for release in lane.unusable)
    assert pyspark.__version__ in requirement("pyspark").specifier
    for outside in ("3.5.9", "4.3.0"):
        assert outside not in requirement("pyspark").specifier
    assert lane.spark == ".".join(pyspark.__version__.split(".")[:2])
