//! The facts about a request on which a decision rests: the caller, the key, the circumstances, and
//! the request's own members.
//!
//! Facts are borrowed and looked up by name: a decision copies nothing.

use crate::clock::Timestamp;
use crate::clock::calendar::Iso8601;
use crate::context::EncryptionContext;
use crate::key::arn::{AccountId, AliasName, Arn};
use crate::key::spec::{KeyOrigin, KeySpec, KeyUsage};
use crate::operation::Action;
use crate::policy::condition_key::ConditionKey;
use crate::policy::grant::KeyGrants;
use crate::policy::principal::{PrincipalKind, Tag};
use crate::policy::steps::Steps;
use crate::policy::{AuthorizationRequest, KeyPolicy, Principal, TrustPolicy};
use std::cell::{Cell, OnceCell};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// The circumstances of a call.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The time of day.
    pub now: Timestamp,
    /// Where the connection comes from; `None` for a Unix socket.
    pub source_ip: Option<IpAddr>,
    /// Whether the call could not be read on its way.
    pub secure_transport: bool,
    /// The daemon's Region, such as `us-east-1`.
    pub region: &'a str,
}

/// The facts about a request's KMS key that policy needs.
#[derive(Clone, Copy)]
pub struct KeyFacts<'a> {
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its key policy; `None` for the default policy, with which the account's identity policies
    /// decide.
    pub policy: Option<&'a KeyPolicy>,
    /// Its grants.
    pub grants: Option<&'a KeyGrants>,
    /// `KeySpec`, such as `SYMMETRIC_DEFAULT`.
    pub spec: KeySpec,
    /// `KeyUsage`, such as `ENCRYPT_DECRYPT`.
    pub usage: KeyUsage,
    /// `Origin`, such as `AWS_KMS`.
    pub origin: KeyOrigin,
    /// `MultiRegionKeyType` of a multi-Region key: `PRIMARY` or `REPLICA`.
    pub multi_region: Option<&'a str>,
    /// The aliases that refer to it.
    pub aliases: &'a [AliasName],
    /// Its tags.
    pub tags: &'a [Tag],
}

/// The facts about a role that a caller asks to assume.
#[derive(Clone, Copy)]
pub struct RoleFacts<'a> {
    /// The account that it belongs to.
    pub account: AccountId,
    /// Its trust policy; `None` for a role without one, and for one that does not exist.
    pub trust_policy: Option<&'a TrustPolicy>,
    /// Its tags, with the caller's transitive ones in the place of those of the same key.
    pub tags: &'a [Tag],
}

/// A value of a condition key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
    /// A time.
    Time(Timestamp),
    /// An address.
    Address(IpAddr),
}

/// The values that a request has for a condition key.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// The key is not in the request.
    Absent,
    /// The value of a single-valued key.
    One(Value<'a>),
    /// The values of a multivalued key; an empty list counts as absent.
    Many(&'a [&'a str]),
    /// As [`Self::Many`], where each value is kept by itself.
    Texts(&'a [String]),
}

/// A single-valued key has several values, under names that differ only in case.
pub(super) struct Ambiguous;

/// All facts of one decision.
pub(super) struct Facts<'a> {
    pub(super) principal: &'a Principal,
    pub(super) request: &'a dyn AuthorizationRequest,
    pub(super) action: Action,
    /// Split at the first use: most statements of key policies have the resource `*`.
    arn: OnceCell<Option<Arn<'a>>>,
    pub(super) key: Option<KeyFacts<'a>>,
    pub(super) role: Option<RoleFacts<'a>>,
    context: Option<&'a EncryptionContext>,
    /// Whether the decision has read the context.
    reads_context: Cell<bool>,
    circumstances: &'a Circumstances<'a>,
    pub(super) steps: Steps,
}

/// The steps of reading a pair of a context, or a tag.
const PAIR_STEPS: usize = 2;

impl<'a> Facts<'a> {
    pub(super) fn new(
        principal: &'a Principal,
        request: &'a dyn AuthorizationRequest,
        circumstances: &'a Circumstances<'a>,
    ) -> Self {
        Self {
            principal,
            request,
            action: request.action(),
            arn: OnceCell::new(),
            key: request.key(),
            role: request.role(),
            context: request.context(),
            reads_context: Cell::new(false),
            circumstances,
            steps: Steps::here(),
        }
    }

    /// The request's encryption context.
    pub(super) fn context(&self) -> Option<&'a EncryptionContext> {
        self.reads_context.set(true);
        self.context
    }

    /// Whether the decision has read the context so far. If not, it is the same under every other
    /// context.
    pub(super) fn reads_context(&self) -> bool {
        self.reads_context.get()
    }

    /// The resource's ARN; `None` for `*`.
    pub(super) fn arn(&self) -> Option<Arn<'a>> {
        *self.arn.get_or_init(|| Arn::split(self.request.resource()))
    }

    /// Calls `visit` with each value of `key`.
    ///
    /// Names of context pairs and tags are compared without regard to ASCII case here. So a key
    /// that AWS calls single-valued has several values if a request has names that differ only in
    /// case.
    pub(super) fn each(&self, key: &ConditionKey, visit: &mut dyn FnMut(Value<'a>)) {
        self.steps.spend(PAIR_STEPS);
        match key {
            ConditionKey::EncryptionContext(name) => {
                if let Some(context) = self.context() {
                    self.steps.spend(PAIR_STEPS * context.len());
                    context
                        .values_of(name)
                        .for_each(|value| visit(Value::Text(value)));
                }
            }
            ConditionKey::EncryptionContextKeys => {
                let contexts = self.context().into_iter();
                let pairs = contexts.flat_map(|context| context.pairs());
                pairs.for_each(|(name, _)| visit(Value::Text(name)));
            }
            ConditionKey::PrincipalTag(name) => self.tags(self.principal.tags(), name, visit),
            ConditionKey::ResourceTag(name) => {
                let of_key = self.key.map(|key| key.tags);
                let tagged = of_key.or(self.role.map(|role| role.tags)).unwrap_or(&[]);
                self.tags(tagged, name, visit);
            }
            ConditionKey::ResourceAliases => {
                let aliases = self.key.map_or::<&[AliasName], _>(&[], |key| key.aliases);
                aliases
                    .iter()
                    .for_each(|alias| visit(Value::Text(alias.as_str())));
            }
            _ => match self.computed(key).map_or_else(
                || self.request.condition(key),
                |value| value.map_or(Values::Absent, Values::One),
            ) {
                Values::Absent => {}
                Values::One(value) => visit(value),
                Values::Many(texts) => texts.iter().for_each(|text| visit(Value::Text(text))),
                Values::Texts(texts) => texts.iter().for_each(|text| visit(Value::Text(text))),
            },
        }
    }

    fn tags(&self, tags: &'a [Tag], name: &str, visit: &mut dyn FnMut(Value<'a>)) {
        self.steps.spend(PAIR_STEPS * tags.len());
        tags.iter()
            .filter(|tag| tag.key.eq_ignore_ascii_case(name))
            .for_each(|tag| visit(Value::Text(&tag.value)));
    }

    /// The single value of a policy variable's key; `None` when the key is absent.
    pub(super) fn one(&self, key: &ConditionKey) -> Result<Option<Value<'a>>, Ambiguous> {
        let (mut first, mut count) = (None, 0);
        self.each(key, &mut |value| {
            first.get_or_insert(value);
            count += 1;
        });
        if count > 1 {
            return Err(Ambiguous);
        }
        Ok(first)
    }

    /// The value of a key that is not a member of the request: `None` for members of the request,
    /// `Some(None)` when the value is absent.
    fn computed(&self, key: &ConditionKey) -> Option<Option<Value<'a>>> {
        let text = |text: Option<&'a str>| Some(text.map(Value::Text));
        let principal = self.principal;
        match key {
            ConditionKey::CurrentTime => Some(Some(Value::Time(self.now()))),
            ConditionKey::EpochTime => Some(Some(seconds(self.now()))),
            ConditionKey::SourceIp => Some(
                self.circumstances
                    .source_ip
                    .map(|ip| Value::Address(ip.to_canonical())),
            ),
            ConditionKey::SecureTransport => {
                Some(Some(Value::Bool(self.circumstances.secure_transport)))
            }
            ConditionKey::RequestedRegion => text(Some(self.circumstances.region)),
            ConditionKey::ViaAwsService | ConditionKey::PrincipalIsAwsService => {
                Some(Some(Value::Bool(false)))
            }
            // A caller with a token of an identity provider is not a principal of this store yet.
            ConditionKey::PrincipalArn
            | ConditionKey::PrincipalAccount
            | ConditionKey::CallerAccount
                if principal.kind() == PrincipalKind::WebIdentity =>
            {
                Some(None)
            }
            ConditionKey::PrincipalArn => text(Some(principal.lasting_arn())),
            ConditionKey::PrincipalAccount | ConditionKey::CallerAccount => {
                text(Some(principal.account.as_str()))
            }
            ConditionKey::SourceIdentity => text(
                principal
                    .parameters()
                    .and_then(|parameters| parameters.source_identity.as_deref()),
            ),
            ConditionKey::FederatedProvider => text(
                principal
                    .parameters()
                    .and_then(|parameters| parameters.provider.as_deref()),
            ),
            ConditionKey::PrincipalType => text(principal.type_name()),
            ConditionKey::UserName => text(principal.user_name()),
            ConditionKey::UserId => text(principal.user_id()),
            ConditionKey::TokenIssueTime => Some(principal.token_issue_time().map(Value::Time)),
            ConditionKey::MultiFactorAuthPresent => {
                Some(principal.token_issue_time().map(|_| Value::Bool(false)))
            }
            ConditionKey::ResourceAccount => text(
                self.arn()
                    .map(|arn| arn.account)
                    .filter(|account| !account.is_empty()),
            ),
            // No service calls on behalf of another principal here.
            ConditionKey::ViaService | ConditionKey::Inapplicable => Some(None),
            _ => self
                .key
                .and_then(|key_facts| self.of_key(key, key_facts))
                .map(Some),
        }
    }

    fn of_key(&self, key: &ConditionKey, facts: KeyFacts<'a>) -> Option<Value<'a>> {
        match key {
            ConditionKey::KeySpec => Some(Value::Text(facts.spec.name())),
            ConditionKey::KeyUsage => Some(Value::Text(facts.usage.name())),
            ConditionKey::KeyOrigin => Some(Value::Text(facts.origin.name())),
            ConditionKey::MultiRegion => Some(Value::Bool(facts.multi_region.is_some())),
            ConditionKey::MultiRegionKeyType => facts.multi_region.map(Value::Text),
            // A symmetric key has one algorithm, whether or not the request names it.
            ConditionKey::EncryptionAlgorithm
                if self.action.encrypts() && facts.spec == KeySpec::Symmetric =>
            {
                Some(Value::Text(facts.spec.name()))
            }
            _ => None,
        }
    }

    /// The time to the second, the precision of policies.
    fn now(&self) -> Timestamp {
        Timestamp(self.circumstances.now.unix_seconds() * 1_000_000)
    }
}

fn seconds<'a>(time: Timestamp) -> Value<'a> {
    Value::Number(i64::try_from(time.unix_seconds()).unwrap_or(i64::MAX))
}

impl<'a> Value<'a> {
    /// The value as text, for string operators and for policy variables.
    pub(super) fn text(self) -> ValueText<'a> {
        match self {
            Self::Text(text) => ValueText::Borrowed(text),
            Self::Bool(true) => ValueText::Borrowed("true"),
            Self::Bool(false) => ValueText::Borrowed("false"),
            Self::Number(number) => Written::with(|out| write!(out, "{number}")),
            Self::Time(time) => Written::with(|out| write!(out, "{}", Iso8601::of(time))),
            Self::Address(address) => Written::with(|out| write!(out, "{address}")),
        }
    }
}

/// A value as text, without allocation.
pub(super) enum ValueText<'a> {
    Borrowed(&'a str),
    Written(Written),
}

impl ValueText<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Written(written) => written.as_str(),
        }
    }
}

/// A few bytes of ASCII on the stack.
pub(super) struct Written {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Written {
    /// The bytes of the longest value: an IPv6 address has at most 45, a time 25, a number 20.
    const BYTES_MAX: usize = 48;

    fn with<'a>(write: impl FnOnce(&mut Self) -> fmt::Result) -> ValueText<'a> {
        let (bytes, len) = ([0; Self::BYTES_MAX], 0);
        let mut written = Self { bytes, len };
        // Every value fits: see `Self::BYTES_MAX`.
        let _fits = write(&mut written);
        ValueText::Written(written)
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Written {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
