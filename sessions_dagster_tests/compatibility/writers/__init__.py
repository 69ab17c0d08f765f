"""One program per tool: each writes a file for every case that the tool knows.

`python -m sessions_dagster_tests.compatibility.writers.polars FOLDER` writes the files, and `manifest.json`, which says
of each case which file it is, or why the tool does not write it.
"""
