"""Processes that work on the same tables at the same moment: `make test-races`, and a short part in `test_races`."""
