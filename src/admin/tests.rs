//! The operator's own operations against a real store.

use super::*;
use crate::api::tests::*;
use crate::policy::Principal;
use crate::stream::DataKeys;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

mod keys;
mod policy_check;
mod principals;
mod sessions;
