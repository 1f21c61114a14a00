//! A session that was made for a role, and how its credentials are answered.

use crate::api::attempt::Attempt;
use crate::api::{ApiError, ErrorCode, Reply, Requester};
use crate::auth::Session;
use crate::clock::Timestamp;
use crate::clock::calendar::Iso8601;
use crate::keystore::{AccessKey, PrincipalEntry};
use crate::policy::SessionParameters;
use crate::sts::role_request::RoleRequest;
use crate::sts::xml::{self, Xml};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The percentage above which parameters have no token.
const PERCENT_MAX: usize = 100;

/// A new session.
pub(super) struct Issued {
    session: Session,
    token: String,
    arn: String,
}

/// Makes a session of `role`.
///
/// # Errors
/// `PackedPolicyTooLarge`; the operating system gives no randomness.
pub(super) fn issue(
    attempt: &Attempt<'_>,
    role: &PrincipalEntry,
    asked: &RoleRequest<'_>,
    seconds: u64,
    parameters: SessionParameters,
) -> Result<Issued, ApiError> {
    let entropy = &attempt.api.entropy;
    let principal = &role.principal;
    let made = principal.session(asked.session_name, attempt.now);
    let arn = made.map_err(ApiError::internal)?.arn;
    let id = principal.unique_id().unwrap_or_default();
    // Whole seconds, rounded down: no client believes in a second that is not there.
    let issue_time = Timestamp(attempt.now.unix_seconds() * 1_000_000);
    let session = Session::new(
        principal.arn.clone(),
        id.to_owned(),
        asked.session_name.to_owned(),
        AccessKey::draw(AccessKey::TEMPORARY, entropy)?,
        issue_time,
        issue_time.after(Duration::from_secs(seconds)),
    )
    .with_parameters(Arc::new(parameters));
    let percent = session.packed_percent();
    if percent > PERCENT_MAX {
        let what = if session.parameters.policy.is_some() {
            "session policy and tags consume"
        } else {
            "session tags consumes"
        };
        let message = format!("Packed size of {what} {percent}% of allotted space.");
        return Err(ApiError::new(ErrorCode::PackedPolicyTooLarge, message));
    }
    let token = session.token(attempt.api.keystore.session_token_key(), entropy)?;
    Ok(Issued {
        session,
        token,
        arn,
    })
}

impl Issued {
    /// The answer of `operation`, with the elements that it adds, and those that the audit log
    /// writes down.
    pub(super) fn reply(
        &self,
        operation: &str,
        requester: &Requester,
        more: &[(&str, &str)],
    ) -> Reply {
        let body = xml::answer(operation, requester.request_id, |xml| {
            self.write(xml);
            for (name, value) in more {
                xml.text(name, value);
            }
        });
        Reply::new(body)
            .naming(self.session.role_arn.clone())
            .telling(self.recorded(more).to_string())
    }

    fn write(&self, xml: &mut Xml) {
        let Session {
            access_key,
            parameters,
            ..
        } = &self.session;
        xml.open("AssumedRoleUser");
        xml.text("AssumedRoleId", &self.id());
        xml.text("Arn", &self.arn);
        xml.close();
        xml.open("Credentials");
        xml.text("AccessKeyId", &access_key.id);
        let secret = str::from_utf8(access_key.secret.expose()).unwrap_or_default();
        xml.text("SecretAccessKey", secret);
        xml.text("SessionToken", &self.token);
        xml.text("Expiration", &self.expiration());
        xml.close();
        // AWS leaves it out where there is neither a policy nor a tag.
        if parameters.policy.is_some() || !parameters.tags.is_empty() {
            let percent = self.session.packed_percent();
            xml.text("PackedPolicySize", &percent.to_string());
        }
        if let Some(identity) = &parameters.source_identity {
            xml.text("SourceIdentity", identity);
        }
    }

    /// The role's unique id and the session's name.
    fn id(&self) -> String {
        format!("{}:{}", self.session.role_id, self.session.name)
    }

    fn expiration(&self) -> String {
        Iso8601::of(self.session.expiration).to_string()
    }

    /// `responseElements` of the audit record, without the secrets.
    fn recorded(&self, more: &[(&str, &str)]) -> Value {
        let mut elements = json!({
            "credentials": {
                "accessKeyId": self.session.access_key.id,
                "expiration": self.expiration(),
            },
            "assumedRoleUser": {
                "assumedRoleId": self.id(),
                "arn": self.arn,
            },
        });
        if let Some(identity) = &self.session.parameters.source_identity {
            elements["sourceIdentity"] = Value::from(identity.as_str());
        }
        for (name, value) in more {
            let mut name = (*name).to_owned();
            name[..1].make_ascii_lowercase();
            elements[name] = Value::from(*value);
        }
        elements
    }
}
