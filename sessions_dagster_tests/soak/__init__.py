"""A soak: some months of daily batches through the sensor and the daemon, with whatever may happen to them.

`make soak` runs it, by hand: it takes an hour or two. Nothing of it belongs to `make test`.
"""
