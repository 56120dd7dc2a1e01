"""The report of a pool: what it did day by day, as tables (``data``) and as one page (``page``).

It reads a database and a policy and nothing else, so it serves a simulation and a running pool alike.
Import its modules: nothing is loaded before it is needed.
"""
