"""A week of made-up events that goes wrong in every way the contract allows, run through Dagster and told in words."""
