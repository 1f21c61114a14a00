//! Authorization: the only door between a decoded request and its execution.

use std::sync::Arc;

pub mod document;
pub mod evaluate;
pub mod principal;

pub use document::PolicyDocument;
pub use principal::Principal;

/// An IAM action of this service, such as `kms:Decrypt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Action(pub &'static str);

/// What policy asks a request; `api` types implement it.
pub trait AuthorizationRequest {
    /// The action.
    fn action(&self) -> Action;
    /// The ARN of the key or alias that it is about, or `*`.
    fn resource(&self) -> &str;
}

/// Proof that policy allowed `request`. Built only by [`authorize`].
pub struct Authorized<R> {
    request: R,
    principal: Arc<Principal>,
}

impl<R> Authorized<R> {
    /// The request.
    pub fn request(&self) -> &R {
        &self.request
    }

    /// The request, given up.
    pub fn into_request(self) -> R {
        self.request
    }

    /// Who asked.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No statement allows it.
    NoAllow,
    /// A statement denies it.
    ExplicitDeny,
}

/// Decides: a deny wins, and the absence of an allow is a deny (AUTH-1).
///
/// # Errors
/// [`Denied`].
pub fn authorize<R: AuthorizationRequest>(
    _principal: &Arc<Principal>,
    _request: R,
) -> Result<Authorized<R>, Denied> {
    todo!()
}
