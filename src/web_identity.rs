//! Identities that other issuers vouch for: tokens of OpenID Connect, for which
//! `AssumeRoleWithWebIdentity` of AWS STS gives the credentials of a role.
//!
//! The sender of a token is not authenticated, so a token is judged by the cheapest check first:
//! its length and form, whether its issuer is configured for the account, whether the issuer has
//! its key. Then its signature is verified, at most so many times a second for each address, then
//! its times, and last its audience.
//!
//! What this module does not do: know roles, or decide whether one trusts the issuer (`policy`).

use crate::clock::Clock;
use crate::key::arn::AccountId;
use crate::metrics::Metrics;
use crate::policy::TrustPolicy;
use crate::rates::Rates;
use ::metrics::Counter;
use fetch::Source;
use keys::Keys;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub mod algorithm;
pub mod claims;
pub mod error;
mod fetch;
pub mod issuer;
pub mod key_set;
mod keys;
pub mod token;
pub mod url;

pub use claims::Claims;
pub use error::TokenError;
pub use fetch::FetchError;
pub use key_set::KeySet;
pub use token::Token;
pub use url::Url;

/// The issuers that are configured, with their keys.
pub struct WebIdentities {
    issuers: Vec<Issuer>,
    clock: Clock,
    taken: Counter,
    refused: [Counter; TokenError::LABELS.len()],
}

struct Issuer {
    url: Url,
    account: AccountId,
    provider_arn: String,
    audiences: Vec<String>,
    keys: Arc<Keys>,
}

/// Who a token is of.
#[derive(Clone)]
pub struct Identity {
    /// The issuer's URL, as `iss` has it.
    pub issuer: String,
    /// The issuer's URL without its scheme: what the condition keys of its claims begin with.
    pub provider: String,
    /// `arn:<partition>:iam::<account>:oidc-provider/<provider>`
    pub provider_arn: String,
    /// The account in it.
    pub account: AccountId,
    /// The audience of the token that the issuer is configured with.
    pub audience: String,
    /// What else the token says.
    pub claims: Claims,
}

impl WebIdentities {
    /// The issuers of `configs`, by name. Those without an account are `account`'s. No key is known
    /// until [`Self::keep`] has fetched it. An issuer whose URL is not one is left out: `config`
    /// has refused it before.
    #[must_use]
    pub fn new(
        configs: &BTreeMap<String, issuer::Config>,
        partition: &str,
        account: AccountId,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Self {
        let waiting = Arc::new(Semaphore::new(keys::WAITING_MAX));
        let of = |(name, config): (&String, &issuer::Config)| {
            let url: Url = config.url.parse().ok()?;
            let account = config.account_or(account);
            let provider = url.without_scheme();
            let source = Source::of(config, url.clone(), clock.clone());
            Some(Issuer {
                account,
                provider_arn: format!("arn:{partition}:iam::{account}:oidc-provider/{provider}"),
                audiences: config.audiences.clone(),
                keys: Arc::new(Keys::new(name, source, &waiting, clock.clone(), metrics)),
                url,
            })
        };
        Self {
            issuers: configs.iter().filter_map(of).collect(),
            ..Self::none(clock, metrics)
        }
    }

    /// No issuer: every token is refused.
    #[must_use]
    pub fn none(clock: &Clock, metrics: &Metrics) -> Self {
        Self {
            issuers: Vec::new(),
            clock: clock.clone(),
            taken: metrics.web_identity_tokens("ok"),
            refused: TokenError::LABELS.map(|label| metrics.web_identity_tokens(label)),
        }
    }

    /// Reads the files that `configs` name and checks that they can be used: key sets, authorities
    /// and bearer tokens. Asks no issuer.
    ///
    /// # Errors
    /// The first file that cannot be used, and its setting.
    pub fn check(
        configs: &BTreeMap<String, issuer::Config>,
        clock: &Clock,
    ) -> Result<(), FetchError> {
        let mut configs = configs.iter();
        configs.try_for_each(|(name, config)| fetch::check_files(name, config, clock))
    }

    /// Fetches the keys of every issuer, until it is stopped.
    pub fn keep(&self, tasks: &mut JoinSet<()>, stopped: &watch::Receiver<()>) {
        for issuer in &self.issuers {
            tasks.spawn(Arc::clone(&issuer.keys).keep(stopped.clone()));
        }
    }

    /// Whether no issuer is configured.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.issuers.is_empty()
    }

    /// The first issuer that a trust policy of a role of `account` names and that is not configured
    /// for the account: the ARN of a provider, or the URL of an issuer without its scheme. It is
    /// misspelt, most likely, and can let no caller in.
    #[must_use]
    pub fn unknown_in<'a>(&self, trust: &'a TrustPolicy, account: AccountId) -> Option<&'a str> {
        let known = || self.issuers.iter().filter(|one| one.account == account);
        let is_provider = |arn: &&str| known().any(|one| one.provider_arn == **arn);
        let is_issuer = |url: &&str| known().any(|one| one.url.without_scheme() == *url);
        let mut providers = trust.providers();
        let provider = providers.find(|arn| !is_provider(arn));
        provider.or_else(|| trust.issuers().find(|url| !is_issuer(url)))
    }

    /// Who the token `text` is of, for a role of `account`. `source` is the address that it came
    /// from; all callers without one share a rate.
    ///
    /// # Errors
    /// [`TokenError`], the cheapest check first.
    pub async fn verify(
        &self,
        text: &str,
        account: AccountId,
        source: Option<IpAddr>,
        rates: &Rates,
    ) -> Result<Identity, TokenError> {
        let judged = self.judge(text, account, source, rates).await;
        match &judged {
            Ok(_) => self.taken.increment(1),
            Err(error) => self.refused[error.label()].increment(1),
        }
        judged
    }

    async fn judge(
        &self,
        text: &str,
        account: AccountId,
        source: Option<IpAddr>,
        rates: &Rates,
    ) -> Result<Identity, TokenError> {
        let token = Token::parse(text)?;
        let issuer = self.issuer(token.issuer(), account)?;
        let key = issuer.keys.find(token.key_id(), token.algorithm()).await?;
        let charged = rates.take_token(source, self.clock.monotonic());
        charged.map_err(|_| TokenError::Throttled)?;
        let claims = token.verify(&key)?.claims(self.clock.now())?;
        issuer.identity(claims)
    }

    fn issuer(&self, url: &str, account: AccountId) -> Result<&Issuer, TokenError> {
        let found = self
            .issuers
            .iter()
            .find(|issuer| issuer.account == account && issuer.url.as_str() == url);
        found.ok_or_else(|| TokenError::UnknownIssuer(url.to_owned()))
    }
}

impl Issuer {
    fn identity(&self, claims: Claims) -> Result<Identity, TokenError> {
        let mut audiences = claims.audiences.iter();
        let audience = audiences.find(|audience| self.audiences.contains(audience));
        let audience = audience.ok_or(TokenError::Audience)?.clone();
        Ok(Identity {
            issuer: self.url.as_str().to_owned(),
            provider: self.url.without_scheme().to_owned(),
            provider_arn: self.provider_arn.clone(),
            account: self.account,
            audience,
            claims,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
