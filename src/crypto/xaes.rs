//! XAES-256-GCM (C2SP): the derivation of a one-epoch AES-256-GCM key, and one-shot sealing with it.
