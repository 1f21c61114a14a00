//! What a grant asks of the requests that it allows: their encryption context, and on behalf of
//! which resource of AWS they are made.

use crate::context::EncryptionContext;
use crate::policy::grant::InvalidGrant;
use crate::policy::steps::Steps;
use std::fmt;
use std::str::FromStr;

/// The required encryption context of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantConstraint {
    /// Exactly these pairs.
    Equals(EncryptionContext),
    /// These pairs, and any others.
    Subset(EncryptionContext),
}

impl GrantConstraint {
    /// The most pairs of a constraint.
    pub const PAIRS_MAX: usize = 8;
    /// The most characters of a value.
    pub const VALUE_CHARACTERS_MAX: usize = 384;

    /// The constraint of a request, which has at most one.
    ///
    /// An empty map beside a full one is as good as none: clients that fill in both members send
    /// it. Alone it is a constraint; of two empty ones the stricter counts, that there is no
    /// context at all.
    pub(super) fn of(
        equals: Option<&EncryptionContext>,
        subset: Option<&EncryptionContext>,
    ) -> Result<Option<Self>, InvalidGrant> {
        let constraint = match (equals, subset) {
            (Some(equals), Some(subset)) if !equals.is_empty() && !subset.is_empty() => {
                return Err(InvalidGrant::TwoConstraints);
            }
            (None, None) => return Ok(None),
            (Some(empty), Some(pairs)) if empty.is_empty() && !pairs.is_empty() => {
                Self::Subset(pairs.clone())
            }
            (Some(pairs), _) => Self::Equals(pairs.clone()),
            (None, Some(pairs)) => Self::Subset(pairs.clone()),
        };
        constraint.check().map(|()| Some(constraint))
    }

    /// `GrantConstraintType` in conditions: the constraint's name.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Equals(_) => "EncryptionContextEquals",
            Self::Subset(_) => "EncryptionContextSubset",
        }
    }

    /// The pairs.
    #[must_use]
    pub fn pairs(&self) -> &EncryptionContext {
        match self {
            Self::Equals(pairs) | Self::Subset(pairs) => pairs,
        }
    }

    /// Whether a request with this context satisfies the constraint.
    #[must_use]
    pub fn holds(&self, context: &EncryptionContext) -> bool {
        self.holds_in(context, &Steps::unbounded())
    }

    /// Does what [`Self::holds`] does, and counts the steps.
    pub(super) fn holds_in(&self, context: &EncryptionContext, steps: &Steps) -> bool {
        contains(context, self.pairs(), steps)
            && match self {
                Self::Subset(_) => true,
                Self::Equals(pairs) => pairs.len() == context.len(),
            }
    }

    /// Whether every context that satisfies this constraint also satisfies `other`.
    pub(super) fn is_as_strict_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Equals(pairs) | Self::Subset(pairs), Self::Subset(_)) => other.holds(pairs),
            (Self::Equals(pairs), Self::Equals(_)) => other.holds(pairs),
            (Self::Subset(_), Self::Equals(_)) => false,
        }
    }

    pub(super) fn check(&self) -> Result<(), InvalidGrant> {
        let pairs = self.pairs();
        if pairs.pairs().count() > Self::PAIRS_MAX {
            return Err(InvalidGrant::Pairs);
        }
        let long = |value: &str| value.chars().count() > Self::VALUE_CHARACTERS_MAX;
        if pairs.pairs().any(|(_, value)| long(value)) {
            return Err(InvalidGrant::Value);
        }
        let folded = |name: &str| {
            let same = pairs
                .pairs()
                .filter(|(other, _)| other.eq_ignore_ascii_case(name));
            same.count()
        };
        if pairs.pairs().any(|(name, _)| folded(name) > 1) {
            return Err(InvalidGrant::Names);
        }
        Ok(())
    }
}

/// Whether `context` has each of `pairs`, and no other value under such a name.
fn contains(context: &EncryptionContext, pairs: &EncryptionContext, steps: &Steps) -> bool {
    pairs.pairs().all(|(name, value)| {
        steps.spend(context.len());
        let mut of_name = context
            .pairs()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .peekable();
        of_name.peek().is_some() && of_name.all(|(_, other)| other == value)
    })
}

/// `Constraints.SourceArn`: the resource of AWS on behalf of which a service of AWS calls.
///
/// No service of AWS calls here, so no request has a source ARN: a grant with this constraint
/// allows nothing but its retirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceArn(Box<str>);

/// The text is not the ARN of a resource in an account.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a source ARN is arn:aws…:<service>:<Region>:<account>:<resource>, 20 to 512 characters")]
pub struct InvalidSourceArn;

impl SourceArn {
    /// The fewest characters (service model of AWS KMS, `GrantConstraintSourceArnType`).
    pub const CHARACTERS_MIN: usize = 20;
    /// The most characters.
    pub const CHARACTERS_MAX: usize = 512;
    /// The model's pattern.
    pub const PATTERN: &str = "^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$";

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text matches [`Self::PATTERN`].
    #[must_use]
    pub fn matches(text: &str) -> bool {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().unwrap_or_default();
        let (arn, partition, service, region, account, resource) =
            (next(), next(), next(), next(), next(), next());
        let lower = |text: &str| {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            text.bytes().all(|byte| allowed(byte) || byte == b'-')
        };
        arn == "arn"
            && partition.starts_with("aws")
            && [partition, service, region].into_iter().all(lower)
            && !service.is_empty()
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && !resource.is_empty()
            && !resource.contains(['\n', '\r'])
    }
}

impl FromStr for SourceArn {
    type Err = InvalidSourceArn;

    fn from_str(text: &str) -> Result<Self, InvalidSourceArn> {
        let fits = (Self::CHARACTERS_MIN..=Self::CHARACTERS_MAX).contains(&text.chars().count());
        let arn = (fits && Self::matches(text)).then(|| Self(text.into()));
        arn.ok_or(InvalidSourceArn)
    }
}

impl fmt::Display for SourceArn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
