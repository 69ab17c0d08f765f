"""The Dagster graph: a thin layer of assets, checks, resources and jobs over `core`."""
