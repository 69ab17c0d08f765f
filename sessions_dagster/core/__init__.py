"""What the product computes, as plain functions over Spark DataFrames that know nothing of Dagster."""
