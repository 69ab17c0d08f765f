"""Dagster's UI as a person uses it: a real `dagster dev` and a real browser. Run by `make test-ui` alone."""
