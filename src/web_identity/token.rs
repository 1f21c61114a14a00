//! A token: a JSON Web Token in the compact form of a JSON Web Signature.
//!
//! What it says is believed in steps, and each has a type. Of a [`Token`] only the issuer, the id
//! of the key and the algorithm can be read, with which the key is looked for. A [`Verified`] is a
//! token whose signature holds. Its [`Claims`] can be read when they are within their time (WEB-1).
//! No type here can be printed.
//!
//! Sources: RFC 7515 (JSON Web Signature), sections 4, 5.2 and 7.1; RFC 7519 (JSON Web Token),
//! section 7.2; RFC 8725 (best current practices), sections 3.1 and 3.2.

use crate::clock::Timestamp;
use crate::policy::json::Json;
use crate::web_identity::algorithm::Algorithm;
use crate::web_identity::claims::Claims;
use crate::web_identity::error::TokenError;
use crate::web_identity::key_set::{Key, decoded};
use zeroize::Zeroizing;

/// Members of an object, each once.
pub(super) type Members = Vec<(String, Json)>;

/// A token that has been taken apart. Nothing that it says is known to be true. A process that has
/// all of it can act as its holder, so it is wiped.
pub struct Token {
    algorithm: Algorithm,
    key_id: String,
    issuer: String,
    /// Header and claims as they were sent.
    signed: Zeroizing<String>,
    signature: Zeroizing<Vec<u8>>,
    claims: Members,
}

/// A token that its issuer has signed. Whether it is valid now, and for which audience, is not
/// known.
pub struct Verified(Members);

impl Token {
    /// The fewest characters of a token (AWS STS API reference, `WebIdentityToken`).
    pub const CHARACTERS_MIN: usize = 4;
    /// The most characters of a token.
    pub const CHARACTERS_MAX: usize = 20_000;

    /// Takes a token apart. White space at its end is left out: clients send the final line feed of
    /// a file with it.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], [`TokenError::Missing`] for one without an issuer.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim_ascii_end();
        if !(Self::CHARACTERS_MIN..=Self::CHARACTERS_MAX).contains(&text.len()) {
            return Err(TokenError::Invalid("it has 4 to 20000 characters"));
        }
        let not_a_token = TokenError::Invalid("it is not a JSON Web Token with a signature");
        let (signed, signature) = text.rsplit_once('.').ok_or(not_a_token.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(not_a_token.clone())?;
        let parts = (members(header), members(claims), decoded(signature));
        let (Some(header), Some(claims), Some(signature)) = parts else {
            return Err(not_a_token);
        };
        // A token that must be understood in a way that is not known here is not understood.
        if find(&header, "crit").is_some() {
            return Err(TokenError::Invalid("its header has \"crit\""));
        }
        let algorithm = text_of(&header, "alg").and_then(Algorithm::named);
        let algorithm = algorithm.ok_or(TokenError::Invalid(
            "it must be signed with RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA",
        ))?;
        // Keys that come with the token, or from where it says, are not looked at: `jwk`, `jku`,
        // `x5c`, `x5u`.
        let key_id = text_of(&header, "kid").unwrap_or_default().to_owned();
        let issuer = text_of(&claims, "iss").ok_or(TokenError::Missing("iss"))?;
        Ok(Self {
            algorithm,
            key_id,
            issuer: issuer.to_owned(),
            signed: Zeroizing::new(signed.to_owned()),
            signature: Zeroizing::new(signature),
            claims,
        })
    }

    /// `iss`, as the token has it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `kid`; empty when there is none.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// `alg`.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The token, if `key` has signed it.
    ///
    /// # Errors
    /// [`TokenError::Invalid`].
    pub fn verify(self, key: &Key) -> Result<Verified, TokenError> {
        key.verify(self.algorithm, self.signed.as_bytes(), &self.signature)
            .map_err(|_| TokenError::Invalid("its signature is not of its issuer"))?;
        Ok(Verified(self.claims))
    }
}

impl Verified {
    /// What the token says, if it is valid at `now`.
    ///
    /// # Errors
    /// [`TokenError`]: a claim is missing or of another type, or the token has expired, is too old,
    /// or is not valid yet.
    pub fn claims(self, now: Timestamp) -> Result<Claims, TokenError> {
        Claims::read(self.0, now)
    }
}

/// The members of an object in base64url.
fn members(part: &str) -> Option<Members> {
    match serde_json::from_slice(&decoded(part)?) {
        Ok(Json::Object(members)) => Some(members),
        _ => None,
    }
}

/// The member of this name.
pub(super) fn find<'a>(members: &'a [(String, Json)], name: &str) -> Option<&'a Json> {
    let found = members.iter().find(|(other, _)| other == name);
    found.map(|(_, value)| value)
}

/// The member of this name, if it is a text.
fn text_of<'a>(members: &'a [(String, Json)], name: &str) -> Option<&'a str> {
    match find(members, name) {
        Some(Json::Text(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
