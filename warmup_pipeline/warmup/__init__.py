"""The cycle's steps as plain functions over domain, store and gateways, with an explicit clock.

Holds: what the Dagster ops call, and what a time-lapse calls. Nothing here knows Dagster.
"""
