//! Pool: sync.
