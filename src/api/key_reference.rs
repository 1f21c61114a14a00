//! A `KeyId` as a request gives it: one of four forms, parsed once.
//!
//! Whether such a key exists, [`resolve`](crate::api::resolve) says: a
//! reference that cannot be one of a key is refused where the key would be looked up.

use crate::api::{ApiError, ErrorCode};
use crate::key::KeyId;
use crate::key::arn::{AccountId, AliasName, Arn};
use crate::key::regions::Region;

/// A `KeyId`: a key's id or ARN, an alias or an alias's ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyReference<'a> {
    text: &'a str,
    form: Form<'a>,
}

/// Which form a `KeyId` has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// A name without an ARN: of the caller's account, in the Region that is called.
    Bare(Name<'a>),
    /// An ARN.
    Arn {
        partition: &'a str,
        service: &'a str,
        region: &'a str,
        account: AccountId,
        name: Name<'a>,
    },
    /// What begins as an ARN and is not one.
    BrokenArn,
}

/// What a `KeyId` says, without its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Key(KeyId),
    /// In the place of a key's id, what cannot be one.
    NotAKey(&'a str),
    Alias(AliasName),
    /// Behind `alias/`, what cannot be the name of an alias.
    NotAnAlias,
    /// The resource of an ARN that is neither.
    Other,
}

impl<'a> KeyReference<'a> {
    /// The reference that this text is.
    pub(crate) fn parse(text: &'a str) -> Self {
        let form = if !text.starts_with("arn:") {
            Form::Bare(if text.starts_with(AliasName::PREFIX) {
                alias(text)
            } else {
                key(text)
            })
        } else if let Some(arn) = Arn::split(text)
            && let Ok(account) = arn.account.parse()
        {
            Form::Arn {
                partition: arn.partition,
                service: arn.service,
                region: arn.region,
                account,
                name: match arn.resource.strip_prefix("key/") {
                    Some(id) => key(id),
                    None if arn.resource.starts_with(AliasName::PREFIX) => alias(arn.resource),
                    None => Name::Other,
                },
            }
        } else {
            Form::BrokenArn
        };
        Self { text, form }
    }

    /// As the request gives it.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn form(&self) -> &Form<'a> {
        &self.form
    }

    /// Whether it is an alias or the ARN of one, be it one that cannot exist.
    pub(crate) fn is_alias(&self) -> bool {
        let (Form::Bare(name) | Form::Arn { name, .. }) = &self.form else {
            // Of an ARN whose account is none, too.
            return Arn::split(self.text)
                .is_some_and(|arn| arn.resource.starts_with(AliasName::PREFIX));
        };
        matches!(name, Name::Alias(_) | Name::NotAnAlias)
    }

    /// The account and the name that it means to a caller of the account `own`, if it is of this
    /// Region.
    pub(crate) fn locate(
        &self,
        own: AccountId,
        here: &Region,
    ) -> Result<(AccountId, &Name<'a>), ApiError> {
        match &self.form {
            Form::Bare(name) => Ok((own, name)),
            Form::Arn {
                partition,
                service,
                region,
                account,
                name,
            } => {
                if *service != "kms" || *partition != here.partition {
                    return Err(self.broken_arn());
                }
                if *region != here.name {
                    let message = format!("Invalid arn {region}");
                    return Err(ApiError::new(ErrorCode::NotFoundException, message));
                }
                Ok((*account, name))
            }
            Form::BrokenArn => Err(self.broken_arn()),
        }
    }

    /// The refusal of a reference that cannot be one of a key.
    pub(crate) fn invalid(&self, own: AccountId, here: &Region) -> ApiError {
        let message = match &self.form {
            Form::Bare(Name::NotAKey(id)) => format!("Invalid keyId '{id}'"),
            Form::Arn {
                name: Name::NotAKey(id),
                ..
            } => format!("Invalid keyId {id}"),
            Form::Bare(Name::NotAnAlias) => return alias_not_found(&here.arn(own, self.text)),
            Form::Arn {
                name: Name::NotAnAlias,
                ..
            } => return alias_not_found(self.text),
            _ => return self.broken_arn(),
        };
        ApiError::new(ErrorCode::NotFoundException, message)
    }

    fn broken_arn(&self) -> ApiError {
        let message = format!(
            "ARN '{}' is not that of a key or an alias of KMS",
            self.text
        );
        ApiError::new(ErrorCode::InvalidArnException, message)
    }
}

pub(crate) fn alias_not_found(arn: &str) -> ApiError {
    let message = format!("Alias {arn} is not found.");
    ApiError::new(ErrorCode::NotFoundException, message)
}

fn key(text: &str) -> Name<'_> {
    text.parse().map_or(Name::NotAKey(text), Name::Key)
}

fn alias(text: &str) -> Name<'_> {
    text.parse().map_or(Name::NotAnAlias, Name::Alias)
}
