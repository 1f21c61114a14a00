//! Pool: queue.
