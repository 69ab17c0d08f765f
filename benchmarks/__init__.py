"""How fast: the product beside the ways it has to be compared with. `python -m benchmarks` measures everything."""
