//! The members that name a grantee or a retiring principal.

use crate::api::validation::{Pattern, Violations};
use crate::api::{ApiError, ErrorCode};
use crate::policy::grant::{GrantPrincipal, Named, ServicePrincipal};

const PRINCIPAL_CHARACTERS_MAX: usize = 256;

/// `GranteePrincipal`, `RetiringPrincipal`
const PRINCIPAL: Pattern = Pattern {
    text: r"^[\w+=,.@:/-]+$",
    matches: |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    },
};

/// `GranteeServicePrincipal`, `RetiringServicePrincipal`
const SERVICE_PRINCIPAL: Pattern = Pattern {
    text: ServicePrincipal::PATTERN,
    matches: ServicePrincipal::matches,
};

/// The two members that name a principal of a grant: as a principal, or as a service of AWS.
pub(super) struct PrincipalMembers {
    principal: &'static str,
    service: &'static str,
}

pub(super) const GRANTEE: PrincipalMembers = PrincipalMembers {
    principal: "GranteePrincipal",
    service: "GranteeServicePrincipal",
};

pub(super) const RETIRING: PrincipalMembers = PrincipalMembers {
    principal: "RetiringPrincipal",
    service: "RetiringServicePrincipal",
};

impl PrincipalMembers {
    /// The principal or service that the members name, if they do. Both of them are refused, after
    /// all other members were checked.
    pub(super) fn check<'a>(
        &self,
        principal: Option<&'a str>,
        service: Option<&'a str>,
        violations: &mut Violations,
    ) -> Result<Option<Named<'a>>, ApiError> {
        if let Some(name) = principal {
            let max = PRINCIPAL_CHARACTERS_MAX;
            violations.text(&violation(self.principal), name, 1, max, Some(&PRINCIPAL));
        }
        if let Some(name) = service {
            let max = ServicePrincipal::CHARACTERS_MAX;
            let member = violation(self.service);
            violations.text(&member, name, 1, max, Some(&SERVICE_PRINCIPAL));
        }
        match (principal, service) {
            (Some(_), Some(_)) => Err(self.not_one()),
            (Some(name), None) => Ok(Some(Named::Principal(name))),
            (None, service) => Ok(service.map(Named::Service)),
        }
    }

    /// The member that shows such a principal of a grant.
    pub(super) fn of(&self, who: &GrantPrincipal) -> &'static str {
        match who {
            GrantPrincipal::Principal(_) => self.principal,
            GrantPrincipal::Service(_) => self.service,
        }
    }

    /// The refusal of a request that has both of the members, or neither where one is required.
    pub(super) fn not_one(&self) -> ApiError {
        let Self { principal, service } = self;
        let message = format!("Please specify either {principal} or {service}.");
        ApiError::new(ErrorCode::ValidationException, message)
    }
}

/// A member as violations spell it, in lowerCamelCase.
fn violation(member: &str) -> String {
    let (first, rest) = member.split_at(1);
    first.to_ascii_lowercase() + rest
}
