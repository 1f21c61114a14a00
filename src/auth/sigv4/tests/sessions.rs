//! Requests that are signed with the credentials of a session.

use super::*;
use crate::auth::Session;
use crate::crypto::entropy::Entropy;

const ROLE: &str = "arn:aws:iam::111122223333:role/batch";
pub(super) const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/batch/nightly";
const EXPIRED: &str =
    "ExpiredTokenException: The security token included in the request is expired";

pub(super) fn role(unique_id: &str) -> PrincipalEntry {
    let role = Principal::new(ROLE, Vec::new()).unwrap();
    PrincipalEntry::new(role.with_unique_id(unique_id), Vec::new())
}

/// A store with a user, and this role.
pub(super) fn with_role(role: PrincipalEntry) -> Snapshot {
    let mut snapshot = snapshot(&[(ID, SECRET)]);
    snapshot.principals.insert(ROLE.to_owned(), Arc::new(role));
    snapshot
}

/// Credentials of a session that ends at `expiration`, sealed under the key of [`verifier`].
fn session_until(expiration: Timestamp) -> Credentials {
    let session = Session::new(
        ROLE.to_owned(),
        "AROAEXAMPLE".to_owned(),
        "nightly".to_owned(),
        AccessKey::new("ASIAEXAMPLE".to_owned(), secret("a session's secret")),
        Timestamp(NOW.0 - 1),
        expiration,
    );
    Credentials {
        access_key_id: "ASIAEXAMPLE".to_owned(),
        secret_access_key: secret("a session's secret"),
        session_token: Some(session.token(&token_key(), &Entropy::os()).unwrap()),
        region: "us-east-1".to_owned(),
    }
}

pub(super) fn session() -> Credentials {
    session_until(NOW.after(Duration::from_hours(1)))
}

#[track_caller]
fn ends(credentials: &Credentials, role: PrincipalEntry, expected: Result<&str, &str>) {
    let request = Request::unsigned().sign_with(credentials, NOW);
    let outcome = request.verify_with(&verifier(), &with_role(role));
    let outcome = outcome.as_ref().map(String::as_str);
    assert_eq!(outcome.map_err(String::as_str), expected);
}

#[test]
fn a_session_is_verified_by_its_token() {
    ends(&session(), role("AROAEXAMPLE"), Ok(SESSION));
    let verifier = verifier();
    let (credentials, snapshot) = (session(), with_role(role("AROAEXAMPLE")));
    for _ in 0..3 {
        let request = Request::unsigned().sign_with(&credentials, NOW);
        let verified = request.verify_with(&verifier, &snapshot);
        assert_eq!(verified.as_deref(), Ok(SESSION));
    }
    // The token was opened before; it is worth nothing once the role is gone.
    let request = Request::unsigned().sign_with(&credentials, NOW);
    let gone = request.verify_with(&verifier, &Snapshot::default());
    assert_eq!(gone, Err(UNRECOGNIZED.to_owned()));
}

#[test]
fn a_session_ends_at_its_time_with_its_role_or_by_its_disabling() {
    ends(&session_until(NOW), role("AROAEXAMPLE"), Err(EXPIRED));
    let last = session_until(Timestamp(NOW.0 + 1));
    ends(&last, role("AROAEXAMPLE"), Ok(SESSION));
    ends(&session(), role("AROALATER"), Err(UNRECOGNIZED));
    let disabled = PrincipalEntry {
        enabled: false,
        ..role("AROAEXAMPLE")
    };
    ends(&session(), disabled.clone(), Err(UNRECOGNIZED));
    // The answer shows the caller that new credentials are needed.
    ends(&session_until(NOW), disabled, Err(EXPIRED));
}

#[test]
fn a_token_that_is_not_the_access_keys_is_refused() {
    type Change<'a> = &'a dyn Fn(&mut Credentials);
    let with = |change: Change<'_>| {
        let mut credentials = session();
        change(&mut credentials);
        credentials
    };
    let other_session = session();
    let changes: [(Change<'_>, &str); 6] = [
        (&|it| it.session_token = None, UNRECOGNIZED),
        (&|it| it.session_token = Some(String::new()), UNRECOGNIZED),
        (
            &|it| it.session_token = Some("SESSIONTOKENEXAMPLE".to_owned()),
            UNRECOGNIZED,
        ),
        (
            &|it| it.access_key_id = "ASIAOTHER".to_owned(),
            UNRECOGNIZED,
        ),
        // A user's keys and another caller's token.
        (&|it| it.access_key_id = ID.to_owned(), UNRECOGNIZED),
        (
            &|it| it.secret_access_key = secret("another secret"),
            MISMATCH,
        ),
    ];
    for (change, message) in changes {
        ends(&with(change), role("AROAEXAMPLE"), Err(message));
    }
    // Another token with the same access key id and secret would do as well: the secret is what
    // signs.
    let swapped = with(&|it| it.session_token.clone_from(&other_session.session_token));
    ends(&swapped, role("AROAEXAMPLE"), Ok(SESSION));
    let foreign = Verifier::new(
        &Regions::one("aws", "us-east-1"),
        Duration::from_mins(5),
        Arc::new(Secret::filled(|bytes| bytes.fill(8))),
    );
    let request = Request::unsigned().sign_with(&session(), NOW);
    let refused = request.verify_with(&foreign, &with_role(role("AROAEXAMPLE")));
    assert_eq!(refused, Err(UNRECOGNIZED.to_owned()));
}

#[test]
fn the_token_must_be_signed_and_be_one() {
    let credentials = session();
    let token = credentials.session_token.clone().unwrap();
    let verify = |request: &Request| {
        let refused = request.verify_with(&verifier(), &with_role(role("AROAEXAMPLE")));
        refused.unwrap_err()
    };
    let unsigned = Credentials {
        session_token: None,
        ..credentials
    };
    let request = Request::unsigned().sign_with(&unsigned, NOW);
    assert_eq!(
        verify(&request.with("x-amz-security-token", &token)),
        "InvalidSignatureException: 'x-amz-security-token' must be a 'SignedHeader' in the AWS Authorization."
    );
    let twice = Request::unsigned().sign_with(&session(), NOW);
    assert_eq!(
        verify(&twice.and("x-amz-security-token", &token)),
        UNRECOGNIZED
    );
}

#[test]
fn inactive_keys_and_disabled_users_are_nobody() {
    let entry = |active: bool, enabled: bool| {
        let principal = Principal::new("arn:aws:iam::111122223333:user/a", Vec::new());
        let key = AccessKey {
            active,
            ..AccessKey::new(ID.to_owned(), secret(SECRET))
        };
        let entry = PrincipalEntry::new(principal.unwrap(), vec![Arc::new(key)]);
        Arc::new(PrincipalEntry { enabled, ..entry })
    };
    for (active, enabled) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut snapshot = Snapshot::default();
        let entry = entry(active, enabled);
        snapshot.access_keys.insert(ID.to_owned(), entry);
        let verified = Request::signed().verify_with(&verifier(), &snapshot);
        let expected = Err(UNRECOGNIZED.to_owned());
        if active && enabled {
            assert!(verified.is_ok());
        } else {
            assert_eq!(verified, expected);
        }
    }
}
