//! The grants of a key by their grantee, their operations, and a pair of their constraint: a
//! decision looks at few of them, however many name its caller.
//!
//! A constraint holds only for contexts with each of its pairs. So of grants with a constraint, it
//! is enough to look at those whose one pair, the *sign*, is in the request's context. The sign is
//! the pair with the longest value, since that is likely to be another one in each grant.

use crate::context::EncryptionContext;
use crate::key::arn::AccountId;
use crate::operation::Action;
use crate::persistent::PersistentMap;
use crate::policy::grant::{Grant, GrantId, GrantOperations};
use crate::policy::steps::Steps;
use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Grants of a grantee with the same operations that are looked at without a look for their signs.
const FEW: usize = if cfg!(test) { 2 } else { 32 };
/// The steps of a look for a place in the map.
const SEEK_STEPS: usize = 64;

/// A hash of the name, in lower case, and the value of a pair. Where two pairs have one, both are
/// looked at.
type Sign = u64;

/// The grants of a key, by what a decision looks for.
#[derive(Clone, Default)]
pub(super) struct ByGrantee(PersistentMap<Place, Arc<Grant>, 16>);

/// Where a grant is in order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    grantee: Grantee,
    operations: GrantOperations,
    /// `None`: it has no constraint, or one without pairs.
    sign: Option<Sign>,
    id: GrantId,
}

/// What decides for which callers a grant is looked at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Grantee {
    /// An account as a whole.
    Account(AccountId),
    /// A principal by its ARN, or a service by its name.
    Named(Arc<str>),
}

/// Whose grants are looked for.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    /// An account as a whole.
    Account(AccountId),
    /// A principal by its ARN.
    Named(&'a str),
}

impl Place {
    fn of(grant: &Grant) -> Self {
        let constraint = grant.parameters.constraint();
        let pairs = constraint.into_iter().flat_map(|one| one.pairs().pairs());
        Self {
            grantee: Grantee::of(grant),
            operations: grant.parameters.operations(),
            sign: pairs.max_by_key(|(_, value)| value.len()).map(sign),
            id: grant.id,
        }
    }
}

fn sign((name, value): (&str, &str)) -> Sign {
    let mut hasher = DefaultHasher::new();
    for byte in name.bytes() {
        hasher.write_u8(byte.to_ascii_lowercase());
    }
    // No text has this byte.
    hasher.write_u8(0xff);
    hasher.write(value.as_bytes());
    hasher.finish()
}

impl Grantee {
    fn of(grant: &Grant) -> Self {
        let grantee = grant.parameters.grantee();
        match grantee.principal().filter(|name| name.is_account()) {
            Some(name) => Self::Account(name.account()),
            None => Self::Named(Arc::clone(grantee.text())),
        }
    }

    fn cmp_to(&self, who: Who<'_>) -> Ordering {
        match (self, who) {
            (Self::Account(own), Who::Account(other)) => own.cmp(&other),
            (Self::Account(_), Who::Named(_)) => Ordering::Less,
            (Self::Named(_), Who::Account(_)) => Ordering::Greater,
            (Self::Named(own), Who::Named(other)) => (**own).cmp(other),
        }
    }
}

impl ByGrantee {
    pub(super) fn of(grants: &[Arc<Grant>]) -> Self {
        let placed = |grant: &Arc<Grant>| (Place::of(grant), Arc::clone(grant));
        let mut placed: Vec<_> = grants.iter().map(placed).collect();
        placed.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self(PersistentMap::of_sorted(placed))
    }

    pub(super) fn put(&mut self, grant: Arc<Grant>) {
        self.0.insert(Place::of(&grant), grant);
    }

    pub(super) fn remove(&mut self, grant: &Grant) {
        self.0.remove(&Place::of(grant));
    }

    /// Hands `visit` the grants of `who` that may allow this, until it breaks off; the same one may
    /// come twice. The looks for them are counted.
    pub(super) fn visit<B>(
        &self,
        who: Who<'_>,
        (action, context): (Action, Option<&EncryptionContext>),
        steps: &Steps,
        visit: &mut impl FnMut(&Arc<Grant>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut from = Some(GrantOperations::default());
        while let Some(least) = from
            && !steps.are_spent()
        {
            steps.spend(SEEK_STEPS);
            let Some((place, _)) = self.from(who, least, None).next() else {
                break;
            };
            let operations = place.operations;
            if operations.has(action) {
                let context = action.facts().has_context.then_some(context);
                self.visit_some(who, operations, context, steps, visit)?;
            }
            from = operations.next();
        }
        ControlFlow::Continue(())
    }

    /// Does so for those with these operations. `context` is `None` where no constraint applies.
    fn visit_some<B>(
        &self,
        who: Who<'_>,
        operations: GrantOperations,
        context: Option<Option<&EncryptionContext>>,
        steps: &Steps,
        visit: &mut impl FnMut(&Arc<Grant>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let from = |sign| {
            let grants = self.from(who, operations, sign);
            grants.take_while(move |(place, _)| place.operations == operations)
        };
        for (at, (place, grant)) in from(None).enumerate() {
            // From here on they are looked for.
            if at >= FEW && place.sign.is_some() && context.is_some() {
                break;
            }
            visit(grant)?;
        }
        if from(None).nth(FEW).is_none() {
            return ControlFlow::Continue(());
        }
        for pair in context
            .flatten()
            .into_iter()
            .flat_map(EncryptionContext::pairs)
        {
            steps.spend(SEEK_STEPS);
            let sign = Some(sign(pair));
            let with_it = from(sign).take_while(|(place, _)| place.sign == sign);
            for (_, grant) in with_it {
                visit(grant)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The grants of `who` from this place on.
    fn from<'a>(
        &'a self,
        who: Who<'a>,
        operations: GrantOperations,
        sign: Option<Sign>,
    ) -> impl Iterator<Item = (&'a Place, &'a Arc<Grant>)> {
        let before = move |place: &Place| {
            let order = place.grantee.cmp_to(who);
            let order = order.then_with(|| (place.operations, place.sign).cmp(&(operations, sign)));
            order.is_lt()
        };
        let grants = self.0.seek(before);
        grants.take_while(move |(place, _)| place.grantee.cmp_to(who).is_eq())
    }
}
