//! Pool: stamp.
