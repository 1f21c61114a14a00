//! The tables in the database, which the first node makes.
//!
//! `keymill.head` has one row: the revision and the sealed head. `keymill.record` has a row for
//! each record, by kind and id, with the revision and the transaction of its last change. A record
//! that was removed stays as a row without content, so that other nodes learn of it; see
//! `REMEMBERED_REVISIONS`. `keymill.alive` has a row for each node whose looks are writes. Every
//! name is qualified, and nothing of a session is relied on.
//!
//! Nothing is made where all of it is there, so that the daily role needs no right to make tables.

use crate::keystore::postgres::session::{Failure, Session};
use std::time::Duration;

/// Time for making the tables, with the wait for another node that makes them.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How often that is begun again where another node was in the way.
const ATTEMPTS_MAX: u32 = 5;

const PRESENT: &str = "SELECT to_regclass('keymill.head') IS NOT NULL \
    AND to_regclass('keymill.record') IS NOT NULL \
    AND to_regclass('keymill.record_revision') IS NOT NULL";

/// The lock is of this transaction and this database; its number is `KMIL` in ASCII. Without it,
/// all but one of several nodes that start at once would fail.
const MAKE: &str = "BEGIN; \
    SELECT pg_advisory_xact_lock(1263356236); \
    CREATE SCHEMA IF NOT EXISTS keymill; \
    CREATE TABLE IF NOT EXISTS keymill.head (\
        one smallint PRIMARY KEY CHECK (one = 1), \
        revision bigint NOT NULL, \
        sealed bytea NOT NULL); \
    CREATE TABLE IF NOT EXISTS keymill.record (\
        k text PRIMARY KEY, \
        revision bigint NOT NULL, \
        request uuid NOT NULL, \
        sealed bytea); \
    CREATE TABLE IF NOT EXISTS keymill.alive (\
        node text PRIMARY KEY, \
        at timestamptz NOT NULL); \
    CREATE INDEX IF NOT EXISTS record_revision ON keymill.record (revision); \
    COMMIT";

/// Stores of earlier builds do not have it, and need it only where looks are writes.
const HAS_ALIVE: &str = "SELECT to_regclass('keymill.alive') IS NOT NULL";

/// Whether the table of nodes is there.
pub(super) async fn has_alive(session: &Session, limit: Duration) -> Result<bool, Failure> {
    let rows = session.rows(limit, HAS_ALIVE, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Whether the tables are there.
pub(super) async fn is_there(session: &Session, limit: Duration) -> Result<bool, Failure> {
    let rows = session.rows(limit, PRESENT, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Makes the tables. A connection on which this failed is in a transaction that has failed.
pub(super) async fn make(session: &Session) -> Result<(), Failure> {
    session.run(TIME_MAX, MAKE).await.map_err(|failure| match failure {
        Failure::Refused { state, reason } if state == "42501" => Failure::Refused {
            reason: format!(
                "{reason}; the tables are missing, and this role may not make them: start once as the owner of the database, or see docs/fleet.md"
            ),
            state,
        },
        other => other,
    })
}

/// Whether another node was in the way, so that it is worth another try: names that were made
/// meanwhile, or a serialization failure.
pub(super) fn was_in_the_way(failure: &Failure, attempt: u32) -> bool {
    let is_made = match failure {
        Failure::Raced => true,
        Failure::Refused { state, .. } => ["23505", "42P06", "42P07"].contains(&state.as_str()),
        Failure::Unanswered(_) => false,
    };
    is_made && attempt < ATTEMPTS_MAX
}
