//! The grants of one key, indexed by id, by name, and by what a decision looks for.

use crate::context::EncryptionContext;
use crate::key::arn::AccountId;
use crate::operation::Action;
use crate::persistent::PersistentMap;
use crate::policy::Principal;
use crate::policy::grant::of_grantee::{ByGrantee, Who};
use crate::policy::grant::{
    Grant, GrantAnswer, GrantConstraint, GrantId, GrantName, GrantParameters,
};
use crate::policy::steps::Steps;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The grants of one key. A decision reads only those that name the caller, its role or its account
/// and may allow what is asked, however many grants there are.
#[derive(Clone, Default)]
pub struct KeyGrants {
    by_id: GrantMap<GrantId>,
    by_grantee: ByGrantee,
    /// Those that have a name.
    by_name: GrantMap<(GrantName, GrantId)>,
}

/// Most keys have few grants.
type GrantMap<K> = PersistentMap<K, Arc<Grant>, 16>;

impl KeyGrants {
    /// These grants, which come in the order of their ids.
    #[must_use]
    pub fn of_sorted(grants: Vec<Arc<Grant>>) -> Self {
        let of_name = |grant: &Arc<Grant>| {
            let name = grant.parameters.name()?;
            Some(((name.clone(), grant.id), Arc::clone(grant)))
        };
        let mut by_name: Vec<_> = grants.iter().filter_map(of_name).collect();
        by_name.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self {
            by_grantee: ByGrantee::of(&grants),
            by_id: GrantMap::of_sorted(grants.into_iter().map(|grant| (grant.id, grant))),
            by_name: GrantMap::of_sorted(by_name),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The grant of this id.
    #[must_use]
    pub fn get(&self, id: GrantId) -> Option<&Arc<Grant>> {
        self.by_id.get(&id)
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.by_id.values()
    }

    /// Those of this id and of this grantee, as far as these are given, from behind `after` on, in
    /// the order of their ids.
    pub fn listed<'a>(
        &'a self,
        id: Option<GrantId>,
        grantee: Option<&'a str>,
        after: Option<GrantId>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Grant>> + 'a> {
        let is_after = move |grant: &&Arc<Grant>| after.is_none_or(|after| grant.id > after);
        let is_of = move |grant: &&Arc<Grant>| {
            grantee.is_none_or(|name| grant.parameters.grantee().as_str() == name)
        };
        match (id, grantee) {
            (Some(id), _) => Box::new(self.get(id).into_iter().filter(is_after).filter(is_of)),
            (None, _) => {
                let from = self
                    .by_id
                    .seek(move |id| after.is_some_and(|after| *id <= after));
                Box::new(from.map(|(_, grant)| grant).filter(is_of))
            }
        }
    }

    /// Adds a grant, or replaces the one with its id. Returns the one that it replaces.
    pub fn put(&mut self, grant: Arc<Grant>) -> Option<Arc<Grant>> {
        let replaced = self.remove(grant.id);
        self.by_grantee.put(Arc::clone(&grant));
        if let Some(name) = grant.parameters.name() {
            let of_name = (name.clone(), grant.id);
            self.by_name.insert(of_name, Arc::clone(&grant));
        }
        self.by_id.insert(grant.id, grant);
        replaced
    }

    /// Removes a grant.
    pub fn remove(&mut self, id: GrantId) -> Option<Arc<Grant>> {
        let grant = self.by_id.remove(&id)?;
        self.by_grantee.remove(&grant);
        if let Some(name) = grant.parameters.name() {
            self.by_name.remove(&(name.clone(), id));
        }
        Some(grant)
    }

    /// The grant with the same name and the same parameters, made under the same account;
    /// `CreateGrant` returns it again.
    #[must_use]
    pub fn same<'a>(
        &'a self,
        parameters: &'a GrantParameters,
        issuing_account: AccountId,
    ) -> Option<&'a Arc<Grant>> {
        let name = parameters.name()?;
        let alike = self.by_name.seek(move |(own, _)| own < name);
        let mut alike = alike.take_while(move |((own, _), _)| own == name);
        let found = alike.find(|(_, grant)| {
            grant.parameters == *parameters && grant.issuing_account == issuing_account
        });
        found.map(|(_, grant)| grant)
    }

    /// The grant that allows a request. One that needs no identity policy is preferred.
    pub(in crate::policy) fn allow(&self, ask: &GrantAsk<'_>) -> Option<(GrantId, GrantAnswer)> {
        let GrantAsk {
            principal,
            owner,
            action,
            context,
            new,
            role_counts,
            steps,
        } = *ask;
        let lasting = principal.lasting_arn();
        let own = (lasting != principal.arn).then_some(Who::Named(&principal.arn));
        let role = role_counts.then_some(Who::Named(lasting));
        let whose = own.into_iter().chain(role);
        let mut found = None;
        let mut visit = |grant: &Arc<Grant>| {
            steps.spend(1);
            if steps.are_spent() {
                return ControlFlow::Break(None);
            }
            // A grant permits `CreateGrant` only for a grant within it.
            let makes = match (action, new) {
                (Action::CreateGrant, Some(new)) => {
                    steps.spend(WITHIN_STEPS);
                    new.check_within(&grant.parameters).is_ok()
                }
                (Action::CreateGrant, None) => false,
                _ => true,
            };
            match grant.allows_in(principal, owner, action, context, steps) {
                GrantAnswer::Yes if makes => {
                    return ControlFlow::Break(Some((grant.id, GrantAnswer::Yes)));
                }
                GrantAnswer::WithIdentityPolicy if makes => {
                    found = Some((grant.id, GrantAnswer::WithIdentityPolicy));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        };
        for who in whose.chain([Who::Account(principal.account)]) {
            let asked = (action, context);
            let visited = self.by_grantee.visit(who, asked, steps, &mut visit);
            if let ControlFlow::Break(answer) = visited {
                return answer;
            }
        }
        found
    }
}

/// What a request asks of a key's grants.
#[derive(Clone, Copy)]
pub(in crate::policy) struct GrantAsk<'a> {
    pub(in crate::policy) principal: &'a Principal,
    /// The key's account.
    pub(in crate::policy) owner: AccountId,
    pub(in crate::policy) action: Action,
    pub(in crate::policy) context: Option<&'a EncryptionContext>,
    /// The grant that a `CreateGrant` would make. One grant must permit all of it: it must not
    /// allow more than that grant does.
    pub(in crate::policy) new: Option<&'a GrantParameters>,
    /// Whether grants to the role of the caller's session count. They do not for an action that the
    /// session's own policy does not allow; grants to the session itself do.
    pub(in crate::policy) role_counts: bool,
    pub(in crate::policy) steps: &'a Steps,
}

/// The steps of comparing two grants: each pair of one with each pair of the other.
const WITHIN_STEPS: usize = GrantConstraint::PAIRS_MAX * GrantConstraint::PAIRS_MAX;
