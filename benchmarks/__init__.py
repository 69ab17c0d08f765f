"""How fast the product is, beside other ways to compute the same. `python -m benchmarks` measures everything."""
