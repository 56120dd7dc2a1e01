"""The seventh step: what the log says of each chip.

Holds: one module for each thing that is derived, in the order of the cycle: ``metrics``, ``trust``, ``age``,
``eligibility``, ``transitions``; ``holds``, which some of them and others look at; ``standing``, which derives
outside a cycle. Everything is computed from the log for a whole pool at once; nothing is kept by hand (root
causes 2 and 6). Source: domain.md, "Metrics, trust, phases" and "Brake and hold".
"""
