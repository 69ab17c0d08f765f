"""Quality: the rules that the tables are checked against, and the statistics of a day.

The rules are written without `transforms` on purpose: a rule that shared code with what it judges could not see it go
wrong. What a broken rule stops, and how it looks in Dagster, is decided in `defs`.
"""
