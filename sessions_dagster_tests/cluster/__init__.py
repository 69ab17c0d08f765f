"""Tests on a cluster of Spark, which they start (`make test-cluster`)."""
