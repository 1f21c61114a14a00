//! A decision finds among many grants of one grantee what a walk over all of them finds.

use super::*;
use crate::policy::steps::STEPS_MAX;

/// The grant of this number.
fn made(
    number: u32,
    grantee: &str,
    operations: &[&str],
    constraint: Option<(bool, &EncryptionContext)>,
) -> Arc<Grant> {
    let (equals, subset) = match constraint {
        None => (None, None),
        Some((true, pairs)) => (Some(pairs), None),
        Some((false, pairs)) => (None, Some(pairs)),
    };
    let parameters = GrantParameters::check(Draft {
        equals,
        subset,
        ..draft(grantee, operations)
    });
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let mut grant = grant(0, parameters.unwrap());
    grant.id = GrantId(id);
    Arc::new(grant)
}

/// The best answer of any grant.
fn walked(grants: &KeyGrants, ask: &GrantAsk<'_>) -> Option<GrantAnswer> {
    let answers = grants.iter().map(|grant| {
        let makes = match (ask.action, ask.new) {
            (Action::CreateGrant, Some(new)) => new.check_within(&grant.parameters).is_ok(),
            (action, _) => action != Action::CreateGrant,
        };
        let answer = grant.allows(ask.principal, ask.owner, ask.action, ask.context);
        if makes { answer } else { GrantAnswer::No }
    });
    let answers: Vec<_> = answers.collect();
    let best = [GrantAnswer::Yes, GrantAnswer::WithIdentityPolicy].into_iter();
    best.into_iter().find(|best| answers.contains(best))
}

const SETS: [&[&str]; 4] = [
    &["Decrypt"],
    &["Decrypt", "Encrypt"],
    &["Encrypt", "DescribeKey", "CreateGrant"],
    &["Decrypt", "CreateGrant", "RetireGrant"],
];
const GRANTEES: [&str; 4] = [
    ALICE,
    ROLE,
    ROOT,
    "arn:aws:sts::111122223333:assumed-role/App/one",
];

/// A grant: its grantee, its operations, and whether its constraint is of equality, with its pairs.
type Made = (usize, usize, Option<(bool, Vec<(String, String)>)>);

fn grants() -> impl Strategy<Value = Vec<Made>> {
    let constraint = prop::option::weighted(0.8, (any::<bool>(), pairs()));
    prop::collection::vec((0..GRANTEES.len(), 0..SETS.len(), constraint), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn what_is_found_is_what_a_walk_finds(
        made_of in grants(),
        removed in prop::collection::vec(any::<bool>(), 60),
        request in prop::option::of(pairs()),
        who in 0..3_usize,
        action in 0..5_usize,
        child in 0..SETS.len(),
    ) {
        let all = (0..).zip(&made_of).filter_map(|(number, (grantee, set, constraint))| {
            let pairs = constraint.as_ref().map(|(equals, pairs)| {
                let pairs = EncryptionContext::from_pairs(pairs.clone()).ok()?;
                let constraint = GrantConstraint::Equals(pairs.clone());
                constraint.check().ok().map(|()| (*equals, pairs))
            });
            let constraint = match pairs {
                None => None,
                // No constraint at all would be another grant.
                Some(None) => return None,
                Some(Some(pairs)) => Some(pairs),
            };
            let constraint = constraint.as_ref().map(|(equals, pairs)| (*equals, pairs));
            Some(made(number, GRANTEES[*grantee], SETS[*set], constraint))
        });
        let all: Vec<_> = all.collect();
        let mut one_by_one = KeyGrants::default();
        for grant in &all {
            one_by_one.put(Arc::clone(grant));
        }
        let mut at_once = KeyGrants::of_sorted(all.clone());
        for (grant, _) in all.iter().zip(&removed).filter(|(_, removed)| **removed) {
            prop_assert!(one_by_one.remove(grant.id).is_some());
            prop_assert!(at_once.remove(grant.id).is_some());
        }
        let request = request.and_then(|pairs| EncryptionContext::from_pairs(pairs).ok());
        let role = Principal::new(ROLE, Vec::new()).unwrap();
        let session = role.session("one", Timestamp(0)).unwrap();
        let principals = [user("alice", &[]), Arc::new(session), user("bob", &[])];
        let actions = [
            Action::Decrypt,
            Action::Encrypt,
            Action::DescribeKey,
            Action::CreateGrant,
            Action::RetireGrant,
        ];
        let new = GrantParameters::check(draft(ALICE, SETS[child])).unwrap();
        let ask = GrantAsk {
            principal: &principals[who],
            owner: owner(),
            action: actions[action],
            context: request.as_ref(),
            new: (actions[action] == Action::CreateGrant).then_some(&new),
            role_counts: true,
            steps: &Steps::unbounded(),
        };
        for grants in [&one_by_one, &at_once] {
            let found = grants.allow(&ask);
            prop_assert_eq!(found.map(|(_, answer)| answer), walked(grants, &ask));
            if let Some((id, answer)) = found {
                let grant = grants.get(id).unwrap();
                let own = grant.allows(ask.principal, ask.owner, ask.action, ask.context);
                prop_assert_eq!(own, answer);
            }
        }
    }
}

#[test]
fn auth_1_the_one_of_fifty_thousand_grants_is_found_in_few_steps() {
    let pairs = |volume: u32| context(&[("Tenant", "7"), ("volume", &format!("v-{volume:08}"))]);
    let grants = (0..u32::try_from(Grant::PER_KEY_MAX).unwrap()).map(|number| {
        let pairs = pairs(number);
        made(number, ALICE, &["Decrypt"], Some((number % 2 == 0, &pairs)))
    });
    let grants = KeyGrants::of_sorted(grants.collect());
    let alice = user("alice", &[]);
    let asked = |context: &EncryptionContext| {
        let steps = Steps::of(STEPS_MAX);
        let found = grants.allow(&GrantAsk {
            principal: &alice,
            owner: owner(),
            action: Action::Decrypt,
            context: Some(context),
            new: None,
            role_counts: true,
            steps: &steps,
        });
        (found.map(|(id, _)| id), STEPS_MAX - steps.left())
    };
    for number in [0, 1, 31_337, 49_999] {
        let (found, taken) = asked(&pairs(number));
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        assert_eq!(found, Some(GrantId(id)));
        assert!(taken < 1000, "{taken}");
    }
    let (found, taken) = asked(&pairs(50_000));
    assert_eq!(found, None);
    assert!(taken < 1000, "{taken}");
}
