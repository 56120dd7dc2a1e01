"""What answers over HTTP: health and status for operators, webhooks for the gateways.

Layer: beside ``orchestration``, above ``warmup``. One module per concern, composed by ``app``.
"""
