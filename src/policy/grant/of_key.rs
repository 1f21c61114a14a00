//! The grants of one key, indexed by id and by grantee.

use crate::context::EncryptionContext;
use crate::key::arn::AccountId;
use crate::operation::Action;
use crate::persistent::PersistentMap;
use crate::policy::grant::{
    Grant, GrantAnswer, GrantConstraint, GrantId, GrantName, GrantParameters,
};
use crate::policy::steps::Steps;
use crate::policy::{Principal, PrincipalName};
use std::cmp::Ordering;
use std::sync::Arc;

/// The grants of one key. A decision reads only those that name the caller, its role or its
/// account, however many grants there are.
#[derive(Clone, Default)]
pub struct KeyGrants {
    by_id: GrantMap<GrantId>,
    by_grantee: GrantMap<(Grantee, GrantId)>,
    /// Those that have a name.
    by_name: GrantMap<(GrantName, GrantId)>,
}

/// Most keys have few grants.
type GrantMap<K> = PersistentMap<K, Arc<Grant>, 16>;

/// What decides for which callers a grant is looked at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Grantee {
    /// An account as a whole.
    Account(AccountId),
    /// A principal by its ARN, or a service by its name.
    Named(Arc<str>),
}

impl Grantee {
    fn of(grant: &Grant) -> Self {
        let grantee = grant.parameters.grantee();
        match grantee.principal().filter(|name| name.is_account()) {
            Some(name) => Self::Account(name.account()),
            None => Self::Named(Arc::clone(grantee.text())),
        }
    }

    /// Where it is in order beside the grantee of an ARN or name.
    fn cmp_named(&self, name: &str) -> Ordering {
        match self {
            Self::Account(_) => Ordering::Less,
            Self::Named(own) => (**own).cmp(name),
        }
    }
}

impl KeyGrants {
    /// These grants, which come in the order of their ids.
    #[must_use]
    pub fn of_sorted(grants: Vec<Arc<Grant>>) -> Self {
        let of_grantee = |grant: &Arc<Grant>| ((Grantee::of(grant), grant.id), Arc::clone(grant));
        let mut by_grantee: Vec<_> = grants.iter().map(of_grantee).collect();
        by_grantee.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let of_name = |grant: &Arc<Grant>| {
            let name = grant.parameters.name()?;
            Some(((name.clone(), grant.id), Arc::clone(grant)))
        };
        let mut by_name: Vec<_> = grants.iter().filter_map(of_name).collect();
        by_name.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self {
            by_id: GrantMap::of_sorted(grants.into_iter().map(|grant| (grant.id, grant))),
            by_grantee: GrantMap::of_sorted(by_grantee),
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
            // The grants of an account are not in order: the account has several names.
            (None, Some(name))
                if name
                    .parse()
                    .is_ok_and(|name: PrincipalName| !name.is_account()) =>
            {
                Box::new(self.of_named(name, after))
            }
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
        let of_grantee = (Grantee::of(&grant), grant.id);
        self.by_grantee.insert(of_grantee, Arc::clone(&grant));
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
        self.by_grantee.remove(&(Grantee::of(&grant), id));
        if let Some(name) = grant.parameters.name() {
            self.by_name.remove(&(name.clone(), id));
        }
        Some(grant)
    }

    /// Those whose grantee has this ARN or name, from behind `after` on, in the order of their ids.
    fn of_named<'a>(
        &'a self,
        name: &'a str,
        after: Option<GrantId>,
    ) -> impl Iterator<Item = &'a Arc<Grant>> {
        let before = move |(own, id): &(Grantee, GrantId)| match own.cmp_named(name) {
            Ordering::Less => true,
            Ordering::Equal => after.is_some_and(|after| *id <= after),
            Ordering::Greater => false,
        };
        let grants = self.by_grantee.seek(before);
        let grants = grants.take_while(move |((own, _), _)| own.cmp_named(name).is_eq());
        grants.map(|(_, grant)| grant)
    }

    /// Those whose grantee is the account.
    fn of_account(&self, account: AccountId) -> impl Iterator<Item = &Arc<Grant>> {
        let whole = Grantee::Account(account);
        let first = whole.clone();
        let grants = self.by_grantee.seek(move |(own, _)| *own < first);
        let grants = grants.take_while(move |((own, _), _)| *own == whole);
        grants.map(|(_, grant)| grant)
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
        let own = (lasting != principal.arn).then(|| self.of_named(&principal.arn, None));
        let role = role_counts.then(|| self.of_named(lasting, None));
        let grants = own.into_iter().chain(role).flatten();
        let mut found = None;
        for grant in grants.chain(self.of_account(principal.account)) {
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

/// The steps of comparing two grants: each pair of one with each pair of the other.
const WITHIN_STEPS: usize = GrantConstraint::PAIRS_MAX * GrantConstraint::PAIRS_MAX;
