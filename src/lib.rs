//! Keymill mints wrapped data keys by the million and serves them with the wire contract of AWS
//! KMS.

pub mod clock;
pub mod file;
pub mod memory;
pub mod metrics;

pub mod crypto;

pub mod context;
pub mod key;

pub mod columns;
pub mod envelope;

pub mod operation;

pub mod policy;

pub mod keystore;

pub mod audit;
pub mod auth;
pub mod pool;
pub mod rates;

pub mod api;

pub mod stream;

pub mod admin;

pub mod bulk;

pub mod export;
pub mod table;

pub mod provision;
pub mod rewrap;

pub mod census;

pub mod verify;

pub mod transport;

pub mod config;

pub mod daemon;

pub mod cli;
