"""Serves SL3-ART-01 and SL3-ART-06: the attacks, one module for each way in. Importing this package registers them."""

from strongroom.attacks.acts import (  # noqa: F401 - each registers its attacks
    alarms,
    copies,
    credentials,
    database,
    decoys,
    documents,
    egress,
    enclave,
    evidence,
    files,
    outside,
    quorum,
    record,
    silence,
    supply,
)
