//! Pool: watermark.
