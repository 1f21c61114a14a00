//! Policy JSON to typed statements; strict.

/// A parsed identity policy.
pub struct PolicyDocument(());

/// A policy that is refused, with the place and the reason.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPolicy(pub String);

impl PolicyDocument {
    /// Parses and compiles the JSON text; an unknown element is an error.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn parse(_json: &str) -> Result<Self, InvalidPolicy> {
        todo!()
    }

    /// The JSON text as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        todo!()
    }
}
