//! A key in a hardware security module, or another token, by PKCS #11 (OASIS, version 2.40): an
//! AES-256 key that never leaves it, and derives keys that do.
//!
//! The derivation is that of XAES-256-GCM ([`crate::crypto::xaes`]): two blocks, each an AES-CMAC
//! of one block, or, where the token has no CMAC, an AES-ECB of the block that CMAC would encrypt.
//! Both give the same key. What a token lists is not what it does, so the mechanism is tried.
//!
//! A token is opened for one derivation and closed again. No two threads are in a module at once.

use crate::crypto::secret::Secret;
use crate::crypto::xaes;
use crate::file::secret;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// One user of modules at a time: a module is initialized once in a process.
static MODULES: Mutex<()> = Mutex::new(());

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The module, a shared library; empty for none.
    pub module: PathBuf,
    /// The label of the token; empty when its slot is given.
    pub token: String,
    /// The number of its slot; negative when its label is given.
    pub slot: i64,
    /// The label of the key in the token, `CKA_LABEL`.
    pub key: String,
    /// The file with the PIN of the token's user.
    pub pin_file: PathBuf,
}

/// Why a key in a token cannot be used. Each error prints as one line with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The module is not a PKCS #11 library, or does not start.
    #[error("PKCS #11 module {module} cannot be used: {reason}")]
    Module {
        /// The module.
        module: PathBuf,
        /// The cause.
        reason: String,
    },
    /// No token, or more than one, has the label.
    #[error(
        "PKCS #11 module {module} has {count} tokens with the label {token:?}, of {found:?}: correct pkcs11.token, or set pkcs11.slot"
    )]
    Token {
        /// The module.
        module: PathBuf,
        /// The label.
        token: String,
        /// So many tokens have it.
        count: usize,
        /// The labels of all tokens.
        found: Vec<String>,
    },
    /// The PIN cannot be read.
    #[error("the PIN of PKCS #11 token {token:?}, {path}, {reason}")]
    PinFile {
        /// The label.
        token: String,
        /// The file.
        path: PathBuf,
        /// What is wrong, without a subject.
        reason: String,
    },
    /// The PIN is wrong. Tokens lock themselves after some tries.
    #[error(
        "PKCS #11 token {token:?} refuses the PIN in {path}: correct it before the next try, since a token locks itself after a few"
    )]
    Pin {
        /// The label.
        token: String,
        /// The file.
        path: PathBuf,
    },
    /// The token is locked.
    #[error(
        "PKCS #11 token {token:?} is locked after wrong PINs: its security officer must set a new one"
    )]
    Locked {
        /// The label.
        token: String,
    },
    /// No key, or more than one, has the label.
    #[error(
        "PKCS #11 token {token:?} has {count} AES keys with the label {key:?}: it must have one"
    )]
    Key {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
        /// So many keys have it.
        count: usize,
    },
    /// The token does neither of the two mechanisms with the key.
    #[error(
        "key {key:?} of PKCS #11 token {token:?} must be an AES-256 key that signs by CKM_AES_CMAC (CKA_SIGN) or encrypts by CKM_AES_ECB (CKA_ENCRYPT): {reason}"
    )]
    Mechanism {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
        /// What the token has said of both.
        reason: String,
    },
    /// The token is gone, or anything else that a module reports.
    #[error("PKCS #11 token {token:?}: {call} has failed: {code}")]
    Failed {
        /// The label.
        token: String,
        /// The function.
        call: String,
        /// The return value.
        code: String,
    },
}

impl Default for Config {
    /// No token.
    fn default() -> Self {
        Self {
            module: PathBuf::new(),
            token: String::new(),
            slot: -1,
            key: String::new(),
            pin_file: PathBuf::new(),
        }
    }
}

impl Config {
    /// What the token is called in errors.
    #[must_use]
    pub fn name(&self) -> String {
        match self.given_slot() {
            Some(slot) => format!("slot {slot}"),
            None => self.token.clone(),
        }
    }

    fn given_slot(&self) -> Option<u64> {
        u64::try_from(self.slot).ok()
    }

    /// Whether a token is configured.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.module.as_os_str().is_empty()
    }

    /// The AES-256-GCM key that XAES-256-GCM derives of the token's key for nonces that begin with
    /// `prefix`. It blocks while the token works.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn derive(&self, prefix: &[u8; xaes::PREFIX_BYTES]) -> Result<Secret<32>, TokenError> {
        let _alone = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        let module = Pkcs11::new(&self.module).map_err(|error| self.unusable(&error))?;
        let flags = CInitializeFlags::OS_LOCKING_OK;
        module
            .initialize(CInitializeArgs::new(flags))
            .map_err(|error| self.unusable(&error))?;
        let derived = self.derived(&module, prefix);
        // What a module says at its end changes nothing of what it has derived.
        if let Err(error) = module.finalize() {
            tracing::debug!(%error, "a PKCS #11 module was not closed cleanly");
        }
        derived
    }

    fn derived(
        &self,
        module: &Pkcs11,
        prefix: &[u8; xaes::PREFIX_BYTES],
    ) -> Result<Secret<32>, TokenError> {
        let slot = self.slot(module)?;
        let pin = self.pin()?;
        let session = module.open_ro_session(slot);
        let session = session.map_err(|error| self.failed(&error))?;
        session
            .login(UserType::User, Some(&pin))
            .map_err(|error| self.failed(&error))?;
        let key = self.key_in(&session)?;
        let by_cmac = xaes::derive_by_cmac(prefix, |block| {
            block_of(session.sign(&Mechanism::AesCMac, key, block))
        });
        let no_cmac = match by_cmac {
            Ok(derived) => return Ok(derived),
            Err(error) if is_of_the_mechanism(&error) => error,
            Err(error) => return Err(self.failed(&error)),
        };
        let by_block = xaes::derive_by_block(prefix, |block| {
            block_of(session.encrypt(&Mechanism::AesEcb, key, block))
        });
        by_block.map_err(|error| match is_of_the_mechanism(&error) {
            true => TokenError::Mechanism {
                token: self.name(),
                key: self.key.clone(),
                reason: format!("{}, and {}", said(&no_cmac).1, said(&error).1),
            },
            false => self.failed(&error),
        })
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, TokenError> {
        if let Some(slot) = self.given_slot() {
            return Slot::try_from(slot).map_err(|error| self.unusable(&error));
        }
        let slots = module.get_slots_with_token();
        let slots = slots.map_err(|error| self.unusable(&error))?;
        let mut labels = Vec::new();
        for slot in slots {
            // A token that is removed meanwhile is as one that was not there. One that says nothing
            // that can be read, as openCryptoki's, has no label here: its slot can be given.
            if let Ok(token) = module.get_token_info(slot) {
                labels.push((slot, token.label().trim_end().to_owned()));
            }
        }
        let mut named = labels.iter().filter(|(_, label)| *label == self.token);
        match (named.next(), named.count()) {
            (Some((slot, _)), 0) => Ok(*slot),
            (first, more) => Err(TokenError::Token {
                module: self.module.clone(),
                token: self.name(),
                count: usize::from(first.is_some()) + more,
                found: labels.iter().map(|(_, label)| label.clone()).collect(),
            }),
        }
    }

    fn pin(&self) -> Result<AuthPin, TokenError> {
        let refused = |reason: String| TokenError::PinFile {
            token: self.name(),
            path: self.pin_file.clone(),
            reason,
        };
        let pin = secret::line(&self.pin_file).map_err(refused)?;
        let pin = std::str::from_utf8(&pin).map_err(|_| refused("is not UTF-8".to_owned()))?;
        Ok(AuthPin::new(pin.into()))
    }

    fn key_in(&self, session: &Session) -> Result<ObjectHandle, TokenError> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(self.key.clone().into_bytes()),
        ];
        let found = session.find_objects(&template);
        match found.map_err(|error| self.failed(&error))?[..] {
            [key] => Ok(key),
            ref keys => Err(TokenError::Key {
                token: self.name(),
                key: self.key.clone(),
                count: keys.len(),
            }),
        }
    }

    fn unusable(&self, error: &Error) -> TokenError {
        TokenError::Module {
            module: self.module.clone(),
            reason: match error {
                Error::Pkcs11(..) => {
                    let (call, code) = said(error);
                    format!("{call} has failed: {code}")
                }
                other => other.to_string(),
            },
        }
    }

    fn failed(&self, error: &Error) -> TokenError {
        let token = self.name();
        match error {
            Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            ) => {
                let path = self.pin_file.clone();
                TokenError::Pin { token, path }
            }
            Error::Pkcs11(RvError::PinLocked, _) => TokenError::Locked { token },
            error => {
                let (call, code) = said(error);
                TokenError::Failed { token, call, code }
            }
        }
    }
}

/// The one block that a token has answered.
fn block_of(answer: Result<Vec<u8>, Error>) -> Result<[u8; 16], Error> {
    let answer = Zeroizing::new(answer?);
    Ok(answer.as_slice().try_into()?)
}

/// Whether a token says that it does not do this with this key.
fn is_of_the_mechanism(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::MechanismInvalid
                | RvError::MechanismParamInvalid
                | RvError::FunctionNotSupported
                | RvError::KeyFunctionNotPermitted
                | RvError::KeyTypeInconsistent
                | RvError::KeySizeRange,
            _
        )
    )
}

/// The function that has failed, and the name of its return value.
fn said(error: &Error) -> (String, String) {
    match error {
        Error::Pkcs11(code, call) => (format!("C_{call:?}"), format!("{code:?}")),
        other => ("the module".to_owned(), other.to_string()),
    }
}
