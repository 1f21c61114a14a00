//! The pure decision function.
