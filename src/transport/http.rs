//! The HTTP service: bounds, authentication, dispatch, batch streams.
