//! An ARN whose parts are patterns. The parts are matched one by one: a wildcard does not extend
//! over the colon into the next part.

use crate::key::arn::Arn;
use crate::policy::error::InvalidPolicy;
use crate::policy::facts::Facts;
use crate::policy::template::{Match, Syntax, Template, split_outside_variables};
use crate::policy::wildcard::Case;

/// An ARN whose parts are patterns.
pub(super) struct ArnPattern([Template; 5]);

impl ArnPattern {
    /// Compiles an ARN with wildcards and variables in any part after `arn:`.
    pub(super) fn compile(text: &str, variables: bool) -> Result<Self, InvalidPolicy> {
        let not_an_arn = || {
            InvalidPolicy::new(format!(
                "{text:?} is not arn:<partition>:<service>:<region>:<account>:<resource>"
            ))
        };
        let parts = split_outside_variables(text, b':', 6);
        let ["arn", parts @ ..] = &*parts else {
            return Err(not_an_arn());
        };
        let parts: &[&str; 5] = parts.try_into().map_err(|_| not_an_arn())?;
        let syntax = Syntax {
            wildcards: true,
            variables,
        };
        let [partition, service, region, account, resource] =
            parts.map(|part| Template::compile(part, syntax));
        let parts = [partition?, service?, region?, account?, resource?];
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if [&parts[0], &parts[1], &parts[4]]
            .iter()
            .any(|part| part.is_empty())
            || !parts.iter().flat_map(Template::literals).all(graphic)
        {
            return Err(not_an_arn());
        }
        Ok(Self(parts))
    }

    pub(super) fn matches(&self, arn: Arn<'_>, facts: &Facts<'_>) -> Match {
        let Self(parts) = self;
        let texts = [
            arn.partition,
            arn.service,
            arn.region,
            arn.account,
            arn.resource,
        ];
        let pairs = parts.iter().zip(texts);
        Match::all(pairs.map(|(part, text)| part.matches(text, facts, Case::Sensitive)))
    }
}
