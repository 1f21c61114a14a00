use super::*;
use crate::policy::PolicyDocument;
use crate::policy::principal::{PrincipalKind, Tag};

const NOW: Timestamp = Timestamp(1_768_478_400_000_000);
const ROLE: &str = "arn:aws:iam::111122223333:role/batch";

fn key(byte: u8) -> Arc<Secret<32>> {
    Arc::new(Secret::filled(|bytes| bytes.fill(byte)))
}

fn session(name: &str) -> Session {
    let secret = SecretBytes::filled(40, |bytes| bytes.fill(b's'));
    let access_key = AccessKey::new("ASIAEXAMPLE".to_owned(), secret);
    let end = NOW.after(std::time::Duration::from_hours(1));
    Session::new(
        ROLE.to_owned(),
        "AROAEXAMPLE".to_owned(),
        name.to_owned(),
        access_key,
        NOW,
        end,
    )
}

fn token(name: &str) -> String {
    session(name).token(&key(7), &Entropy::os()).unwrap()
}

fn role(policies: &[&str], tags: &[(&str, &str)]) -> Principal {
    let policies = policies
        .iter()
        .map(|policy| Arc::new(PolicyDocument::parse(policy).unwrap()));
    let tags = tags.iter().map(|(key, value)| Tag {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    });
    let role = Principal::new(ROLE, policies.collect()).unwrap();
    role.with_tags(tags.collect()).with_unique_id("AROAEXAMPLE")
}

#[test]
fn what_was_sealed_is_opened() {
    let token = token("nightly");
    assert!(token.len() < 400, "{}", token.len());
    let opened = Session::open(token.as_bytes(), &key(7)).unwrap();
    let made = session("nightly");
    assert_eq!(opened.fields(), made.fields());
    assert_eq!(
        (opened.issue_time, opened.expiration),
        (NOW, made.expiration)
    );
    assert!(opened.access_key.active);
    assert_ne!(
        token,
        self::token("nightly"),
        "each is sealed under a nonce of its own"
    );
    // With names of the greatest length.
    let long = self::token(&"n".repeat(64));
    assert!(long.len() < TOKEN_CHARACTERS_MAX / 3);
}

const POLICY: &str = r#"{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}"#;

fn parameters() -> SessionParameters {
    let tag = |key: &str, value: &str| Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    SessionParameters {
        tags: vec![tag("team", "storage"), tag("é", "")],
        transitive_tag_keys: vec!["Team".to_owned()],
        source_identity: Some("alice".to_owned()),
        policy: Some(Arc::new(PolicyDocument::parse(POLICY).unwrap())),
        provider: Some("arn:aws:iam::111122223333:oidc-provider/issuer.example".to_owned()),
    }
}

#[test]
fn parameters_are_opened_as_they_were_sealed() {
    let session = session("nightly").with_parameters(Arc::new(parameters()));
    let token = session.token(&key(7), &Entropy::os()).unwrap();
    assert_eq!(base64_simd::STANDARD.decode_to_vec(&token).unwrap()[0], 2);
    let opened = Session::open(token.as_bytes(), &key(7)).unwrap().parameters;
    let expected = parameters();
    assert_eq!(opened.tags, expected.tags);
    assert_eq!(opened.transitive_tag_keys, ["team"]);
    assert_eq!(opened.source_identity, expected.source_identity);
    assert_eq!(opened.provider, expected.provider);
    assert_eq!(opened.policy.as_ref().unwrap().source(), POLICY);
    // The session's tags stand over those of its role.
    let role = role(&[], &[("TEAM", "everybody"), ("stage", "test")]);
    let principal = Session::open(token.as_bytes(), &key(7)).unwrap();
    let principal = principal.principal(&role).unwrap();
    let tags: Vec<_> = principal.tags().iter().map(|tag| &*tag.value).collect();
    assert_eq!(tags, ["test", "storage", ""]);
    assert!(Arc::ptr_eq(&principal, &principal.renewed(&role).unwrap()));
    let other = self::role(&[], &[("stage", "live")]);
    let renewed = principal.renewed(&other).unwrap();
    let tags: Vec<_> = renewed.tags().iter().map(|tag| &*tag.value).collect();
    assert_eq!(tags, ["live", "storage", ""]);
    assert_eq!(
        renewed.parameters().unwrap().source_identity.as_deref(),
        Some("alice")
    );
}

#[test]
fn hold_1_the_longest_token_is_one_that_is_read() {
    let tagged = |bytes: usize| {
        let parameters = SessionParameters {
            source_identity: Some("s".repeat(bytes)),
            ..SessionParameters::default()
        };
        session("nightly").with_parameters(Arc::new(parameters))
    };
    let fits = (0..4096)
        .rev()
        .find(|bytes| tagged(*bytes).packed_percent() <= 100);
    let longest = tagged(fits.unwrap())
        .token(&key(7), &Entropy::os())
        .unwrap();
    assert_eq!(longest.len(), TOKEN_CHARACTERS_MAX);
    assert!(Sessions::new(key(7)).of(longest.as_bytes(), NOW).is_some());
    let beyond = tagged(fits.unwrap() + 1)
        .token(&key(7), &Entropy::os())
        .unwrap();
    assert!(Sessions::new(key(7)).of(beyond.as_bytes(), NOW).is_none());
}

#[test]
fn whatever_else_is_no_token() {
    let token = token("nightly");
    let none = |token: &[u8]| Sessions::new(key(7)).of(token, NOW).is_none();
    assert!(!none(token.as_bytes()));
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        assert!(none(&altered), "{at}");
        assert!(none(&token.as_bytes()[..at]), "{at}");
    }
    assert!(none(format!("{token}AAAA").as_bytes()));
    assert!(none(format!(" {token}").as_bytes()));
    assert!(none(token.trim_end_matches('=').as_bytes()) || !token.ends_with('='));
    assert!(none(&vec![b'A'; TOKEN_CHARACTERS_MAX + 1]));
    assert!(none(b"") && none(b"\xff\xfe") && none(b"SESSIONTOKENEXAMPLE"));
    assert!(Sessions::new(key(8)).of(token.as_bytes(), NOW).is_none());
    // Sealed correctly, but of another layout or for another use.
    let sealed = |version: u8, associated: &[u8], text: &[u8]| {
        let sealed = xaes::seal(key(7).expose(), associated, text, &Entropy::os()).unwrap();
        base64_simd::STANDARD.encode_to_string([&[version], sealed.as_slice()].concat())
    };
    let [first, second] = ASSOCIATED;
    let empty = [0; 16 + 5 * 2];
    let with_parameters = [0; 16 + 8 * 2];
    assert!(!none(sealed(1, first, &empty).as_bytes()));
    assert!(!none(sealed(2, second, &with_parameters).as_bytes()));
    for (version, associated, text) in [
        (2, first, empty.as_slice()),
        (2, second, &empty),
        (1, second, &with_parameters),
        (1, first, &with_parameters),
        (2, second, &with_parameters[..31]),
        // A tag without its sign, and one without its value.
        (2, second, &[0; 16 + 10 * 2]),
        (
            2,
            second,
            &[with_parameters.as_slice(), &[0, 1, b'-']].concat(),
        ),
        (
            2,
            second,
            &[with_parameters.as_slice(), &[0, 1, b'?', 0, 0]].concat(),
        ),
        (0, first, &empty),
        (3, second, &empty),
        (1, b"keymill grant token v1", &empty),
        (1, first, &empty[..25]),
        (1, first, &[0; 27]),
        (1, first, &[0xff; 26]),
        (1, first, b""),
    ] {
        assert!(
            none(sealed(version, associated, text).as_bytes()),
            "{version} {text:?}"
        );
    }
}

#[test]
fn opened_tokens_are_kept_within_bounds_and_not_beyond_their_end() {
    let sessions = Sessions::new(key(7));
    let first = token("first");
    let opened = sessions.of(first.as_bytes(), NOW).unwrap();
    let again = sessions.of(first.as_bytes(), NOW).unwrap();
    assert!(Arc::ptr_eq(&opened, &again));
    let end = opened.expiration;
    assert!(!opened.has_expired(Timestamp(end.0 - 1)) && opened.has_expired(end));
    // Expired tokens are told apart from foreign ones, and are not kept.
    let late = Sessions::new(key(7));
    assert!(late.of(first.as_bytes(), end).unwrap().has_expired(end));
    assert!(late.opened.load().is_empty());
    for _ in 0..Sessions::ENTRIES_MAX {
        sessions.of(token("other").as_bytes(), NOW).unwrap();
        assert!(sessions.opened.load().len() <= Sessions::ENTRIES_MAX);
    }
    assert_eq!(sessions.opened.load().len(), 1);
}

#[test]
fn a_session_is_what_its_role_is_now() {
    const DECRYPT: &str =
        r#"{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}"#;
    const ENCRYPT: &str =
        r#"{"Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}"#;
    let (session, before) = (session("nightly"), role(&[DECRYPT], &[]));
    let first = session.principal(&before).unwrap();
    assert_eq!(
        first.arn,
        "arn:aws:sts::111122223333:assumed-role/batch/nightly"
    );
    assert_eq!(first.lasting_arn(), ROLE);
    assert_eq!(first.kind(), PrincipalKind::AssumedRole);
    assert_eq!(first.unique_id(), Some("AROAEXAMPLE:nightly"));
    assert_eq!(first.expiration(), Some(session.expiration));
    let again = session.principal(&before).unwrap();
    assert!(Arc::ptr_eq(&first, &again), "made once");
    for after in [
        role(&[ENCRYPT], &[]),
        role(&[DECRYPT, ENCRYPT], &[]),
        role(&[], &[]),
        role(&[DECRYPT], &[("team", "storage")]),
    ] {
        let now = session.principal(&after).unwrap();
        let sources = |principal: &Principal| {
            let policies = principal.policies.iter();
            policies
                .map(|policy| policy.source().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(sources(&now), sources(&after));
        assert_eq!(now.tags(), after.tags());
        assert_eq!(now.expiration(), Some(session.expiration));
        assert_eq!(first.renewed(&after).unwrap().tags(), after.tags());
    }
}

#[test]
fn a_later_role_of_the_same_name_is_another() {
    let session = session("nightly");
    let principal = session.principal(&role(&[], &[])).unwrap();
    let recreated = role(&[], &[]).with_unique_id("AROAEXAMPLF");
    let longer = role(&[], &[]).with_unique_id("AROA");
    let nameless = Principal::new(ROLE, Vec::new()).unwrap();
    let other = "arn:aws:iam::111122223333:role/batch2";
    let other = Principal::new(other, Vec::new()).unwrap();
    let user = "arn:aws:iam::111122223333:user/batch";
    let user = Principal::new(user, Vec::new()).unwrap();
    for role in [recreated, longer, nameless, other, user] {
        assert!(session.principal(&role).is_none());
        assert!(principal.renewed(&role).is_none());
    }
    let same = Arc::new(role(&[], &[]));
    assert!(same.renewed(&same).is_none(), "a role is not a session");
}
