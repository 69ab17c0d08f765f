"""Places and facts: input folders, table locations, and what the Delta log says, without a Spark session."""
