"""Telling somebody: what an alert says, the channels it goes through, and those that are still to be delivered.

Nothing here knows Dagster. What there is to tell is found out in `defs.alerts`, and the Slack channel, which uses
Dagster's library, is in `defs.slack`.
"""
