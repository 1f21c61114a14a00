//! Pool: filler.
