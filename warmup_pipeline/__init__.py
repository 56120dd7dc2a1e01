"""warmup_pipeline: controlled, observable, reversible warm-up of an operator's own WhatsApp numbers.

The package is layered; imports point down only (a test enforces it)::

    orchestration, cli  ->  warmup  ->  domain, store, gateways  ->  domain

Nothing here promises that warm-up prevents restrictions by a provider: see README.
"""
