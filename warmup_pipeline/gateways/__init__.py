"""The two WhatsApp gateways and the simulator that speaks as both.

Holds: HTTP and what it means. No rules (domain), no database (store).
"""
