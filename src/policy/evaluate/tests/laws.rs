//! AUTH-1 as properties, over policies drawn at random.

use super::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Policies, grants and a request.
#[derive(Clone, Debug)]
struct World {
    identity: Vec<String>,
    key: Option<Vec<String>>,
    grants: Vec<(&'static str, &'static str)>,
    caller: &'static str,
    action: &'static str,
    context: Vec<(&'static str, &'static str)>,
}

impl World {
    fn decision(&self) -> Result<Allowed, Denied> {
        let principal = caller(self.caller, vec![identity_policy(&self.identity)]);
        let mut ask = Ask::key(self.action);
        ask.context = Some(EncryptionContext::from_pairs(self.context.clone()).unwrap());
        let key = ask.key.as_mut().unwrap();
        let statements = self
            .key
            .as_ref()
            .filter(|statements| !statements.is_empty());
        key.policy = match (&self.key, statements) {
            (None, _) => None,
            (_, Some(statements)) => Some(key_policy(statements)),
            // None is not well-formed: one about nothing.
            (Some(_), None) => Some(key_policy(&["Allow s3:ListBucket to *".to_owned()])),
        };
        for (number, (grantee, operation)) in (1..).zip(&self.grants) {
            let parameters = GrantParameters::check(draft(arn_of(grantee), &[operation])).unwrap();
            key.grants.put(Arc::new(grant(number, parameters)));
        }
        check(&principal, &ask, &CIRCUMSTANCES)
    }

    fn allows(&self) -> bool {
        self.decision().is_ok()
    }
}

/// Everything of a statement but its effect, with principals or without.
fn about(to: bool) -> impl Strategy<Value = String> {
    let actions = select(vec![
        "*",
        "kms:*",
        "kms:De*",
        "kms:Decrypt",
        "!kms:Decrypt",
        "kms:Encrypt",
        "s3:*",
    ]);
    let resources = select(vec![
        "*",
        "key",
        "arn:aws:kms:*:*:alias/*",
        "!arn:aws:kms:*:444455556666:*",
        "!arn:aws:kms:*:*:key/${aws:userid}",
    ]);
    let principals = select(vec![
        "*",
        "root",
        "alice",
        "app",
        "other-root",
        "carol",
        "111122223333",
    ]);
    let conditions = select(vec![
        "",
        "",
        r#"{"StringEquals":{"kms:EncryptionContext:tenant":"a"}}"#,
        r#"{"StringNotEquals":{"kms:EncryptionContext:tenant":"a"}}"#,
        r#"{"StringEquals":{"kms:EncryptionContext:tenant":"${aws:username}"}}"#,
        r#"{"StringNotLike":{"kms:EncryptionContext:tenant":"${aws:userid}*"}}"#,
        r#"{"StringEqualsIfExists":{"kms:EncryptionContext:tenant":["a","b"]}}"#,
        r#"{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["tenant"]}}"#,
        r#"{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["tenant"]}}"#,
        r#"{"Null":{"kms:EncryptionContext:tenant":"true"},"Bool":{"aws:SecureTransport":"false"}}"#,
    ]);
    (actions, resources, principals, conditions).prop_map(
        move |(actions, resources, principals, condition)| {
            let principals = if to {
                format!(" to {principals}")
            } else {
                String::new()
            };
            let resources = if to { "*" } else { resources };
            let condition = if condition.is_empty() {
                String::new()
            } else {
                format!(" if {condition}")
            };
            format!("{actions} on {resources}{principals}{condition}")
        },
    )
}

fn statements(to: bool) -> impl Strategy<Value = Vec<String>> {
    let one = (select(vec!["Allow", "Allow", "Allow", "Deny"]), about(to));
    prop::collection::vec(
        one.prop_map(|(effect, about)| format!("{effect} {about}")),
        0..5,
    )
}

fn world() -> impl Strategy<Value = World> {
    let grants = select(vec![
        ("alice", "Decrypt"),
        ("root", "Decrypt"),
        ("app", "Encrypt"),
        ("carol", "Decrypt"),
    ]);
    let pairs = select(vec![
        vec![],
        vec![("tenant", "a")],
        vec![("tenant", "alice")],
        vec![("TENANT", "b"), ("tenant", "a")],
        vec![("tenant", "b"), ("x", "y")],
    ]);
    (
        statements(false),
        prop::option::weighted(0.8, statements(true)),
        prop::collection::vec(grants, 0..2),
        select(vec![
            "alice",
            "bob",
            "app-session",
            "root",
            "carol",
            "other-root",
            "fred",
        ]),
        select(vec!["kms:Decrypt", "kms:Encrypt", "kms:DisableKey"]),
        pairs,
    )
        .prop_map(|(identity, key, grants, caller, action, context)| World {
            identity,
            key,
            grants,
            caller,
            action,
            context,
        })
}

fn with(statements: &[String], at: Index, statement: String) -> Vec<String> {
    let mut more = statements.to_vec();
    more.insert(at.index(more.len() + 1), statement);
    more
}

/// The world with one more statement in the caller's policies; and, if the key has a policy, the
/// world with one more there.
fn with_one_more(world: &World, at: Index, effect: &str, own: &str, keys: &str) -> Vec<World> {
    let mut worlds = vec![world.clone()];
    worlds[0].identity = with(&world.identity, at, format!("{effect} {own}"));
    if let Some(statements) = &world.key {
        let key = Some(with(statements, at, format!("{effect} {keys}")));
        worlds.push(World {
            key,
            ..world.clone()
        });
    }
    worlds
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn adding_a_deny_never_allows_more(world in world(), own in about(false), keys in about(true), at: Index) {
        for denied in with_one_more(&world, at, "Deny", &own, &keys) {
            prop_assert!(world.allows() || !denied.allows());
        }
    }

    #[test]
    fn removing_an_allow_never_allows_more(world in world(), own in about(false), keys in about(true), at: Index) {
        for more in with_one_more(&world, at, "Allow", &own, &keys) {
            prop_assert!(more.allows() || !world.allows());
        }
        let mut fewer = world.clone();
        fewer.grants.pop();
        prop_assert!(world.allows() || !fewer.allows());
    }

    #[test]
    fn the_order_of_statements_is_irrelevant(
        (world, other) in world().prop_flat_map(|world| {
            let key = Just(world.key.clone().unwrap_or_default()).prop_shuffle();
            let identity = Just(world.identity.clone()).prop_shuffle();
            (Just(world.clone()), identity, key).prop_map(|(world, identity, key)| {
                let key = world.key.as_ref().map(|_| key);
                let other = World { identity, key, ..world.clone() };
                (world, other)
            })
        }),
    ) {
        prop_assert_eq!(world.allows(), other.allows());
        let kind = |world: &World| world.decision().map_err(|denied| match denied {
            Denied::NoAllow(kind) => Some(kind),
            Denied::ExplicitDeny(_) | Denied::TooManySteps => None,
        }).err();
        prop_assert_eq!(kind(&world), kind(&other));
    }

    /// What identity policies alone never do.
    #[test]
    fn without_a_word_of_the_key_nobody_is_let(world in world()) {
        let silent = World { key: Some(Vec::new()), grants: Vec::new(), ..world };
        prop_assert!(!silent.allows());
    }
}
