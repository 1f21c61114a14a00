//! Keymill mints wrapped data keys by the million and serves them with the wire contract of AWS
//! KMS.
//!
//! # Purpose
//! A storage service asks for a wrapped data key for each container that it creates
//! (`GenerateDataKeyWithoutPlaintext`), and stores it beside the container. The data key itself
//! exists nowhere until a caller with other rights asks to open it (`Decrypt`). So the way of
//! creation is as fast as the pool of wrapped keys, and gives nothing away.
//!
//! # The path of a request
//! A request runs once, from left to right:
//!
//! ```text
//!  bytes ─► transport ─► auth ──► api: decode ─► keystore ─► policy ───► api: execute ─► api: encode ─► bytes
//!           size and     who?     what?          which key?  may they?   take, bind,
//!           time bounds                                                  last check
//!
//!  in the background, on threads of the lowest priority:
//!  entropy ─► epoch ─► mint ─► pooled key ─► lane ───────► (execute: bind to the request's context)
//! ```
//!
//! # Modules
//! A module imports only from rows above its own; `tests/it/layering.rs` holds them to it.
//!
//! | modules | what they do |
//! |---|---|
//! | [`causes`], [`clock`], [`endpoint`], [`mod@file`], [`memory`], [`metrics`], [`persistent`], [`s3`], [`service_manager`] | errors in one line, time, addresses of daemons, files, locked memory, metrics, maps that share their entries, buckets, and what systemd passes and hears; they import nothing of this crate |
//! | [`crypto`] | primitives: GCM's parts, XAES-256-GCM, entropy, secrets that are wiped |
//! | [`tls_files`] | certificates and keys in files |
//! | [`context`], [`key`], [`pkcs11`] | the encryption context in canonical form; KMS keys, their names, states and material; a key in an HSM |
//! | [`envelope`], [`columns`] | how a data key is wrapped, and why no nonce is used twice; contexts and blobs of Arrow columns |
//! | [`operation`] | the operations of AWS KMS, a row of facts for each |
//! | [`policy`] | who may do what: the pure decision over policies and grants |
//! | [`keystore`] | the sealed store, its snapshots, the only writer |
//! | [`auth`], [`audit`], [`backup`], [`rates`], [`pool`] | who asks; the log of every call; backups; limits in keys a second; keys ahead of demand |
//! | [`web_identity`], [`attestation`] | tokens of other issuers, and the keys that verify them; attested code that answers are sealed to |
//! | [`xks_proxy`] | calls of external key managers, which keep keys for this daemon |
//! | [`api`] | the operations of AWS KMS, from members to answers |
//! | [`stream`] | batches of keys, and Arrow streams of containers |
//! | [`admin`] | principals and the operator's other calls |
//! | [`sts`], [`tagging`] | AWS STS: who a caller is; the tags of keys as AWS Resource Groups has them |
//! | [`xks`] | an external key store proxy: keys that AWS KMS uses from outside |
//! | [`table`], [`bulk`], [`export`], [`splice`], [`provision`], [`rewrap`], [`census`], [`verify`] | jobs on tables |
//! | [`transport`] | HTTP, TLS, Unix sockets, and the bounds on all of them |
//! | [`config`], [`daemon`], [`cli`] | settings; start and end in order; the command line |
//!
//! # Limits
//! Processes share keys through one PostgreSQL database, and nothing else. No protection against
//! root on the running host. The library is the
//! inside of the program and promises no stable interface. `SECURITY.md` has every promise, with
//! the code that holds it and the test that shows it.

pub mod causes;
pub mod clock;
pub mod endpoint;
pub mod error_code;
pub mod file;
pub mod memory;
pub mod metrics;
pub mod persistent;
#[cfg(feature = "bulk")]
pub mod s3;
pub mod service_manager;

pub mod crypto;
pub mod tls_files;

pub mod context;
pub mod key;
pub mod pkcs11;

pub mod columns;
pub mod envelope;

pub mod operation;

pub mod policy;

pub mod keystore;

pub mod audit;
pub mod auth;
pub mod backup;
pub mod pool;
pub mod rates;

pub mod attestation;
pub mod web_identity;
pub mod xks_proxy;

pub mod api;

pub mod stream;

pub mod admin;

pub mod sts;
pub mod tagging;
pub mod xks;

#[cfg(feature = "bulk")]
pub mod bulk;

#[cfg(feature = "bulk")]
pub mod export;
#[cfg(feature = "bulk")]
pub mod table;

#[cfg(feature = "bulk")]
pub mod splice;

#[cfg(feature = "bulk")]
pub mod provision;
#[cfg(feature = "bulk")]
pub mod rewrap;

#[cfg(feature = "bulk")]
pub mod bind;
#[cfg(feature = "bulk")]
pub mod census;

#[cfg(feature = "bulk")]
pub mod verify;

pub mod transport;

pub mod config;

pub mod daemon;

pub mod cli;
