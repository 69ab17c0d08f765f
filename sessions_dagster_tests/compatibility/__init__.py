"""Which files of which writers land: files of other tools, written by those tools, landed, and read back.

`make compatibility` writes `docs/compatibility.md` with it. The programs in `writers` are run by interpreters that have
only the tool that they are about, so that package imports nothing but the standard library and that tool.
"""
