//! What a stream of rows is sent for.

/// The task that a stream has for its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Each is given a wrapped key.
    Bind,
    /// The blob of each is put under another key, generation or context.
    Rewrap,
    /// The blob of each is opened, and its key is not returned.
    Verify,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 3] = [Self::Bind, Self::Rewrap, Self::Verify];

    /// The path of its endpoint.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Bind => "/v1/data-keys/bind",
            Self::Rewrap => "/v1/data-keys/rewrap",
            Self::Verify => "/v1/data-keys/verify",
        }
    }

    /// `eventName` of its audit records, one for each chunk, with the count and the digest of all
    /// rows up to its end; and what metrics call it.
    #[must_use]
    pub const fn event(self) -> &'static str {
        match self {
            Self::Bind => "Bind",
            Self::Rewrap => "Rewrap",
            // AWS KMS has a `Verify`, of signatures.
            Self::Verify => "VerifyBlobs",
        }
    }
}
