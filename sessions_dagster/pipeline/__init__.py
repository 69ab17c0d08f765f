"""The steps of the product in their order: land a batch, apply batches, refresh `sessions`.

Here belongs what decides which transforms run on which data, and what is written when. Nothing here knows of Dagster;
what Delta needs to write is in `storage`, and what a row has to look like is in `transforms`.
"""
