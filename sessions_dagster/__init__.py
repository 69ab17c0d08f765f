"""Exact user sessions from late batches: Spark computes, Delta Lake keeps, Dagster runs.

Imports go one way:

    orchestration   the Dagster graph: assets, checks, resources, definitions
         |
       core         the contract: landing, sessions, corrections, quality rules (Spark, no Dagster)
         |
       lake         where tables and input folders are, and what a Delta log says (no Spark session)

    runtime         a Java and a Spark that work with Delta on this machine (no project rules)
"""
