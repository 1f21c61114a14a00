"""Wrapped data keys beside the rows of a table, from a Keymill daemon.

    import keymill
    provisioned = keymill.provision(table, key="alias/containers", context=["tenant", "volume"], endpoint="unix:/run/keymill/keymill.sock")

Each row is bound to its own encryption context, made of the named columns and of constants, and authorized with it. No plaintext key is ever made on the way.
"""

from keymill.client import Client, KeymillError
from keymill.table import provision, provision_batches

__all__ = ["Client", "KeymillError", "provision", "provision_batches"]
