//! A role's temporary credentials. Only their holder stores them: the session token, sent with
//! every request, contains them, sealed.
//!
//! A token is the base64 of `version 1 ‖ nonce 24 ‖ ciphertext ‖ tag 16`, sealed with XAES-256-GCM
//! under the sub-key `session tokens` of the root key. The plaintext is `issue time u64 ‖
//! expiration u64` in microseconds since 1970, then role ARN, the role's unique id, session name,
//! access key id and secret, each after its length as u16; integers are big-endian. A session that
//! was given more than its role has a token of version 2, with its parameters behind these.
//!
//! A token holds only facts that do not change. The role must exist, be enabled, and be the one for
//! which the token was made and not a later one of the same name. The session may do what the role
//! may do at the time of the request.

use crate::clock::Timestamp;
use crate::crypto::entropy::{Entropy, EntropyError};
use crate::crypto::secret::{Secret, SecretBytes};
use crate::crypto::xaes;
use crate::keystore::AccessKey;
use crate::policy::{Principal, SessionParameters};
use arc_swap::{ArcSwap, ArcSwapOption};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

mod parameters;

/// The associated data of each version; the first is 1.
const ASSOCIATED: [&[u8]; 2] = [b"keymill session token v1", b"keymill session token v2"];
/// The most characters of a token: proxies take heads of 8 KiB, and it comes with each request.
const TOKEN_CHARACTERS_MAX: usize = 4096;
/// The most bytes of a plaintext: what base64, version, nonce and tag leave of such a token.
const PLAINTEXT_BYTES_MAX: usize = TOKEN_CHARACTERS_MAX / 4 * 3 - 1 - 24 - 16;

/// A session of a role, with its credentials.
pub struct Session {
    /// The role's ARN.
    pub role_arn: String,
    /// The role's unique id.
    pub role_id: String,
    /// The session's name.
    pub name: String,
    /// The access key that signs its requests.
    pub access_key: Arc<AccessKey>,
    /// When the session was made.
    pub issue_time: Timestamp,
    /// When the session expires.
    pub expiration: Timestamp,
    /// What it was given when its role was assumed.
    pub parameters: Arc<SessionParameters>,
    /// The principal as it was for the last request.
    principal: ArcSwapOption<Principal>,
}

impl Session {
    /// The fewest seconds of a session (STS, `AssumeRole`).
    pub const SECONDS_MIN: i64 = 900;
    /// The most seconds of a session.
    pub const SECONDS_MAX: i64 = 43_200;
    /// The seconds of a session that was asked for without a duration.
    pub const SECONDS_DEFAULT: u64 = 3600;

    /// A session of the role with this ARN and unique id.
    #[must_use]
    pub fn new(
        role_arn: String,
        role_id: String,
        name: String,
        access_key: AccessKey,
        issue_time: Timestamp,
        expiration: Timestamp,
    ) -> Self {
        Self {
            role_arn,
            role_id,
            name,
            access_key: Arc::new(access_key),
            issue_time,
            expiration,
            parameters: Arc::default(),
            principal: ArcSwapOption::empty(),
        }
    }

    /// Gives it parameters.
    #[must_use]
    pub fn with_parameters(self, parameters: Arc<SessionParameters>) -> Self {
        Self { parameters, ..self }
    }

    /// How much of the room for them the parameters take, in percent, rounded up. Above 100 there
    /// is no token for them.
    #[must_use]
    pub fn packed_percent(&self) -> usize {
        let parameters = lengths(&parameters::fields(&self.parameters));
        let room = PLAINTEXT_BYTES_MAX.saturating_sub(16 + lengths(&self.fields()));
        (parameters * 100).div_ceil(room.max(1))
    }

    /// Its token, sealed under `key`. One whose parameters take more than their room is refused
    /// when it is used.
    ///
    /// # Errors
    /// [`EntropyError`].
    ///
    /// # Panics
    /// Never: each field is far shorter than 64 KiB.
    pub fn token(&self, key: &Secret<32>, entropy: &Entropy) -> Result<String, EntropyError> {
        let version = u8::from(!self.parameters.is_empty()) + 1;
        let associated = ASSOCIATED[usize::from(version) - 1];
        let parameters = parameters::fields(&self.parameters);
        let own = self.fields().map(Cow::Borrowed);
        let fields: Vec<_> = own.into_iter().chain(parameters).collect();
        let length = 16 + lengths(&fields);
        // Filled at its final length: a buffer that grows would leave copies of the secret behind.
        let plaintext = SecretBytes::filled(length, |bytes| {
            let (issued, rest) = bytes.split_at_mut(8);
            let (expiring, mut rest) = rest.split_at_mut(8);
            issued.copy_from_slice(&self.issue_time.0.to_be_bytes());
            expiring.copy_from_slice(&self.expiration.0.to_be_bytes());
            for field in fields {
                let (length, after) = rest.split_at_mut(2);
                let (here, after) = after.split_at_mut(field.len());
                let field_bytes = u16::try_from(field.len()).expect("far shorter than 64 KiB");
                length.copy_from_slice(&field_bytes.to_be_bytes());
                here.copy_from_slice(&field);
                rest = after;
            }
        });
        let sealed = xaes::seal(key.expose(), associated, plaintext.expose(), entropy)?;
        let token = [&[version], sealed.as_slice()].concat();
        Ok(base64_simd::STANDARD.encode_to_string(token))
    }

    fn fields(&self) -> [&[u8]; 5] {
        [
            self.role_arn.as_bytes(),
            self.role_id.as_bytes(),
            self.name.as_bytes(),
            self.access_key.id.as_bytes(),
            self.access_key.secret.expose(),
        ]
    }

    /// Opens the output of [`Self::token`]; `None` for all other bytes.
    fn open(token: &[u8], key: &Secret<32>) -> Option<Self> {
        let token = base64_simd::STANDARD.decode_to_vec(token).ok()?;
        let (version, sealed) = token.split_first()?;
        let associated = ASSOCIATED.get(usize::from(*version).checked_sub(1)?)?;
        let plaintext = xaes::open(key.expose(), associated, sealed).ok()?;
        let (issue_time, rest) = plaintext.expose().split_first_chunk()?;
        let (expiration, mut rest) = rest.split_first_chunk()?;
        let mut field = || {
            let (field, after) = split_field(rest)?;
            rest = after;
            Some(field)
        };
        let fields = [field()?, field()?, field()?, field()?];
        let text = |at: usize| String::from_utf8(fields[at].to_vec()).ok();
        let stored = field()?;
        let secret = SecretBytes::copy_of(stored);
        let parameters = match version {
            1 => rest.is_empty().then(Arc::default)?,
            _ => Arc::new(parameters::open(rest)?),
        };
        let session = Self::new(
            text(0)?,
            text(1)?,
            text(2)?,
            AccessKey::new(text(3)?, secret),
            Timestamp(u64::from_be_bytes(*issue_time)),
            Timestamp(u64::from_be_bytes(*expiration)),
        );
        Some(session.with_parameters(parameters))
    }

    /// Whether the session has expired by `now`.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expiration <= now
    }

    /// The principal of a request, under `role` as it is now. `None` when `role` is not the role
    /// for which the session was made.
    pub(super) fn principal(&self, role: &Principal) -> Option<Arc<Principal>> {
        if self.role_arn != role.arn || role.unique_id() != Some(self.role_id.as_str()) {
            return None;
        }
        // The principal of the last request is used again while the role is unchanged.
        let last = self.principal.load_full();
        let now = match last.as_ref().and_then(|last| last.renewed(role)) {
            Some(now) => now,
            None => {
                let made = role.session(&self.name, self.issue_time).ok()?;
                let made = made.with_parameters(&self.parameters);
                Arc::new(made.with_expiration(self.expiration))
            }
        };
        if !last.is_some_and(|last| Arc::ptr_eq(&last, &now)) {
            self.principal.store(Some(Arc::clone(&now)));
        }
        Some(now)
    }
}

/// The bytes of fields, each after its length.
fn lengths(fields: &[impl AsRef<[u8]>]) -> usize {
    fields.iter().map(|field| 2 + field.as_ref().len()).sum()
}

/// The first field, and what is behind it.
fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The sessions whose tokens were used recently, by the hash of the token, so that a token is not
/// opened at each request. Readers never lock.
pub(super) struct Sessions {
    key: Arc<Secret<32>>,
    opened: ArcSwap<HashMap<[u8; 32], Arc<Session>>>,
}

impl Sessions {
    /// The most entries. A daemon with more sessions at the same time opens some tokens again.
    const ENTRIES_MAX: usize = 1024;

    pub(super) fn new(key: Arc<Secret<32>>) -> Self {
        let opened = ArcSwap::default();
        Self { key, opened }
    }

    /// The session of this token, expired or not.
    pub(super) fn of(&self, token: &[u8], now: Timestamp) -> Option<Arc<Session>> {
        if token.len() > TOKEN_CHARACTERS_MAX {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(session) = self.opened.load().get(&hash) {
            return Some(Arc::clone(session));
        }
        let session = Arc::new(Session::open(token, &self.key)?);
        if !session.has_expired(now) {
            // A full table is cleared; sessions in use are then opened again.
            self.opened.rcu(|opened| {
                let mut next = HashMap::clone(opened);
                next.retain(|_, session| !session.has_expired(now));
                if next.len() >= Self::ENTRIES_MAX {
                    next.clear();
                }
                next.insert(hash, Arc::clone(&session));
                next
            });
        }
        Some(session)
    }
}

#[cfg(test)]
mod tests;
