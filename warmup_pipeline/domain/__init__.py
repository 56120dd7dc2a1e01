"""The rules of warm-up: pure functions and values.

Holds: everything domain.md decides. No Dagster, no SQL, no HTTP, no clock, no randomness that is
not passed in.
"""
