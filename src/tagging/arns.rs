//! The members that name resources.

use crate::api::validation::Violations;
use crate::api::{ApiError, ErrorCode};
use crate::key::arn::Arn;
use std::borrow::Cow;

/// Service model, `ResourceARN`.
const CHARACTERS_MAX: usize = 1011;
const MEMBER: &str = "resourceARNList";

/// Checks a list of ARNs that must be there: its length, and theirs.
pub(super) fn required<'a>(
    arns: Option<&'a [Cow<'a, str>]>,
    max: usize,
    violations: &mut Violations,
) -> &'a [Cow<'a, str>] {
    match arns {
        Some(arns) => check(arns, max, violations),
        None => violations.null(MEMBER),
    }
    arns.unwrap_or_default()
}

/// Checks a list of ARNs: its length, and theirs.
pub(super) fn check(arns: &[Cow<'_, str>], max: usize, violations: &mut Violations) {
    violations.elements(MEMBER, arns.len(), 1, max);
    for (number, arn) in (1..).zip(arns.iter().take(max)) {
        let member = format!("{MEMBER}.{number}.member");
        violations.text(&member, arn, 1, CHARACTERS_MAX, None);
    }
}

/// Splits an ARN of any service. AWS refuses the whole call for what is not one.
pub(super) fn split(text: &str) -> Result<Arn<'_>, ApiError> {
    Arn::split(text).ok_or_else(|| {
        let message = format!("{text} is not a valid AmazonResourceName (ARN)");
        ApiError::new(ErrorCode::InvalidParameterException, message)
    })
}
