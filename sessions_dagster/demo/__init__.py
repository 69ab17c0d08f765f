"""A week of made-up batches with every problem that the contract allows, run through Dagster and explained in words."""
