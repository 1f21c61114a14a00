//! The grants of one key, indexed by id and by grantee.

use crate::context::EncryptionContext;
use crate::key::arn::AccountId;
use crate::operation::Action;
use crate::policy::Principal;
use crate::policy::grant::{
    Grant, GrantAnswer, GrantConstraint, GrantId, GrantParameters, GrantPrincipal,
};
use crate::policy::steps::Steps;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The grants of one key. A decision reads only those that name the caller, its role or its
/// account, however many grants there are.
#[derive(Clone, Default)]
pub struct KeyGrants {
    by_id: BTreeMap<GrantId, Arc<Grant>>,
    by_grantee: HashMap<Box<str>, Vec<Arc<Grant>>>,
    /// Grants whose grantee is an account.
    by_account: HashMap<AccountId, Vec<Arc<Grant>>>,
}

impl KeyGrants {
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

    /// The grants whose ids come after `after`, in order: the continuation of a listing.
    pub fn after(&self, after: GrantId) -> impl Iterator<Item = &Arc<Grant>> {
        use std::ops::Bound;
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.by_id.range(range).map(|(_, grant)| grant)
    }

    /// Adds a grant, or replaces the one with its id.
    pub fn put(&mut self, grant: Arc<Grant>) {
        self.remove(grant.id);
        self.of_grantee(&grant).push(Arc::clone(&grant));
        self.by_id.insert(grant.id, grant);
    }

    /// Removes a grant.
    pub fn remove(&mut self, id: GrantId) -> Option<Arc<Grant>> {
        let grant = self.by_id.remove(&id)?;
        let grants = self.of_grantee(&grant);
        grants.retain(|other| other.id != id);
        if grants.is_empty() {
            let grantee = grant.parameters.grantee();
            self.by_grantee.remove(grantee.as_str());
            if let Some(account) = account(grantee) {
                self.by_account.remove(&account);
            }
        }
        Some(grant)
    }

    fn of_grantee(&mut self, grant: &Grant) -> &mut Vec<Arc<Grant>> {
        let grantee = grant.parameters.grantee();
        match account(grantee) {
            Some(account) => self.by_account.entry(account).or_default(),
            None => self.by_grantee.entry(grantee.as_str().into()).or_default(),
        }
    }

    /// The grant with the same name and the same parameters, made under the same account;
    /// `CreateGrant` returns it again.
    #[must_use]
    pub fn same(
        &self,
        parameters: &GrantParameters,
        issuing_account: AccountId,
    ) -> Option<&Arc<Grant>> {
        parameters.name()?;
        self.iter().find(|grant| {
            grant.parameters == *parameters && grant.issuing_account == issuing_account
        })
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
        let named = |name: &str| self.by_grantee.get(name);
        let lasting = principal.lasting_arn();
        let own = (lasting != principal.arn).then(|| named(&principal.arn));
        let lists = [
            own.flatten(),
            role_counts.then(|| named(lasting)).flatten(),
            self.by_account.get(&principal.account),
        ];
        let mut found = None;
        for grant in lists.into_iter().flatten().flatten() {
            steps.spend(1);
            if steps.are_spent() {
                return None;
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
                GrantAnswer::Yes if makes => return Some((grant.id, GrantAnswer::Yes)),
                GrantAnswer::WithIdentityPolicy if makes => {
                    found = Some((grant.id, GrantAnswer::WithIdentityPolicy));
                }
                _ => {}
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

/// The account that a grantee is the whole of.
fn account(grantee: &GrantPrincipal) -> Option<AccountId> {
    let name = grantee.principal().filter(|name| name.is_account());
    name.map(|name| name.account())
}

/// The steps of comparing two grants: each pair of one with each pair of the other.
const WITHIN_STEPS: usize = GrantConstraint::PAIRS_MAX * GrantConstraint::PAIRS_MAX;
