//! An issuer in the configuration, `[issuers.NAME]`.

use crate::key::arn::AccountId;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An issuer whose tokens are taken. An empty path or text means that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `iss` of its tokens, exactly.
    pub url: String,
    /// The audiences of which a token must name one, 1 to [`Self::AUDIENCES_MAX`].
    pub audiences: Vec<String>,
    /// The account whose roles may trust it; that of the daemon where it is empty.
    #[serde(default)]
    pub account: String,
    /// A file with its keys.
    #[serde(default)]
    pub jwks_file: PathBuf,
    /// Where its keys are served. Without it and `jwks_file` the issuer is asked.
    #[serde(default)]
    pub jwks_url: String,
    /// The authorities that vouch for it in TLS; those of the machine where it is empty.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// A bearer token that the host of its keys asks for.
    #[serde(default)]
    pub bearer_token_file: PathBuf,
}

impl Config {
    /// The most issuers (AWS IAM quotas, OpenID Connect providers of an account).
    pub const ISSUERS_MAX: usize = 100;
    /// The most audiences (AWS IAM quotas, client ids of a provider).
    pub const AUDIENCES_MAX: usize = 100;
    /// The most characters of an audience (AWS IAM API reference,
    /// `CreateOpenIDConnectProvider`).
    pub const AUDIENCE_CHARACTERS_MAX: usize = 255;

    /// The account whose roles may trust it: its own, or `default`.
    #[must_use]
    pub fn account_or(&self, default: AccountId) -> AccountId {
        self.account.parse().unwrap_or(default)
    }
}
