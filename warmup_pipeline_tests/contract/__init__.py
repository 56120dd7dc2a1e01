"""What both gateways answer, case by case, against any base URL.

Without further ado the cases run against the simulator. Pointed at a real server by environment
variables, the same cases tell where it differs from the contract, the simulator or the clients:

    WARMUP_CONTRACT_EVOLUTION_URL, _KEY          an Evolution server and its global key
    WARMUP_CONTRACT_EVOLUTION_OPEN               a connected instance; it sends
    WARMUP_CONTRACT_EVOLUTION_CLOSED             an instance whose session is closed and was logged out
    WARMUP_CONTRACT_ZAPI_URL, _CLIENT_TOKEN      Z-API
    WARMUP_CONTRACT_ZAPI_OPEN, _TOKEN            a connected instance and its token; it sends
    WARMUP_CONTRACT_ZAPI_CLOSED, _CLOSED_TOKEN   one that is not connected
    WARMUP_CONTRACT_TO                           a number of yours that messages may be sent to
    WARMUP_CONTRACT_WEBHOOK                      an https address that webhooks may be pointed at

    python -m pytest warmup_pipeline_tests/contract

A case that needs something that is not named is skipped by name, and only then. Nothing is restarted,
logged out or deleted; webhooks of the named instances are replaced.
"""
