"""Dagster, thin: how the steps of ``warmup`` appear, run and are judged in Dagster.

Holds: one module per Dagster concept. No rule and no SQL: ops call ``warmup``, checks call
``warmup.checks``.
"""
