"""Tests in which runs and servers of Spark Connect are killed (`make test-connect`)."""
