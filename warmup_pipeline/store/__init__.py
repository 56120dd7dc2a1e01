"""The pool's database: tables, migrations, and questions asked in the domain's words.

Holds: all SQL of the project. Everything else asks functions of this package, which take an open
transaction (:class:`warmup_pipeline.store.engine.Transaction`) and think in sets: one statement
serves all chips of a pool.
"""
