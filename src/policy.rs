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
    principal: &Arc<Principal>,
    request: R,
) -> Result<Authorized<R>, Denied> {
    evaluate::decide(&principal.policies, request.action(), request.resource())?;
    Ok(Authorized {
        request,
        principal: Arc::clone(principal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Ask(&'static str, &'static str);

    impl AuthorizationRequest for Ask {
        fn action(&self) -> Action {
            Action(self.0)
        }

        fn resource(&self) -> &str {
            self.1
        }
    }

    const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    fn principal(policies: &[&str]) -> Arc<Principal> {
        let parsed = policies
            .iter()
            .map(|policy| Arc::new(PolicyDocument::parse(policy).unwrap()));
        Arc::new(Principal {
            arn: "arn:aws:iam::111122223333:user/provisioner".to_owned(),
            account: "111122223333".parse().unwrap(),
            policies: parsed.collect(),
        })
    }

    #[test]
    fn a_provisioner_mints_and_never_opens() {
        let mint = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
            "Action":"kms:GenerateDataKeyWithoutPlaintext","Resource":"arn:aws:kms:*:111122223333:key/*"}]}"#;
        let principal = principal(&[mint]);
        let authorized =
            authorize(&principal, Ask("kms:GenerateDataKeyWithoutPlaintext", KEY)).ok();
        let authorized = authorized.expect("allowed");
        assert!(Arc::ptr_eq(authorized.principal(), &principal));
        assert_eq!(authorized.request().resource(), KEY);
        assert_eq!(
            authorized.into_request(),
            Ask("kms:GenerateDataKeyWithoutPlaintext", KEY)
        );
        for action in ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"] {
            let denied = authorize(&principal, Ask(action, KEY)).err();
            assert_eq!(denied, Some(Denied::NoAllow), "{action}");
        }
    }

    #[test]
    fn a_deny_in_one_policy_beats_an_allow_in_another() {
        let all = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
        let none = r#"{"Statement":{"Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}}"#;
        for policies in [[all, none], [none, all]] {
            let denied = authorize(&principal(&policies), Ask("kms:Decrypt", KEY)).err();
            assert_eq!(denied, Some(Denied::ExplicitDeny));
        }
        let nobody = authorize(&principal(&[]), Ask("kms:Decrypt", KEY)).err();
        assert_eq!(nobody, Some(Denied::NoAllow));
    }

    #[test]
    fn an_operator_may_everything_of_this_service() {
        let operator = Principal::operator(1000, "111122223333".parse().unwrap());
        assert_eq!(operator.arn, "local:1000");
        assert!(authorize(&operator, Ask("kms:CreateKey", "*")).is_ok());
        assert!(authorize(&operator, Ask("kms:Decrypt", KEY)).is_ok());
        let denied = authorize(&operator, Ask("s3:GetObject", "*")).err();
        assert_eq!(denied, Some(Denied::NoAllow));
    }
}
