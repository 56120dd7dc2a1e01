"""Tests through real parts: real databases, real sockets, real Dagster runs."""
