//! Pool: lane.
