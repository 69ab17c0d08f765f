"""Getting a Spark that can read and write Delta on the machine at hand: Java, JARs, session settings."""
