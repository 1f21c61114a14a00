//! Records put back by an attacker who can write to the store and has older copies of it.
//!
//! The attack is the one that format 1 fell to. Its terms stood in a table, so that of each record
//! of which two versions are known, the difference of the terms is known too: 256 bits. Of 256
//! such differences that are independent, some sum up to any other one, and Gaussian elimination
//! finds them. It is run here against both formats.

use super::*;
use crate::key::key_store::KeyStoreId;
use crate::keystore::record::{FORMAT_OF_OLD, TABLES, Term, toggle};
use crate::keystore::tests::{access, key_stores};
use crate::policy::{Grant, KeyPolicy, PolicyDocument, Principal};

/// Records of each kind of which there can be many: more than the bits of a term.
const EACH: usize = 300;
const MANY: [Kind; 6] = [
    Kind::Key,
    Kind::KeyPolicy,
    Kind::Grant,
    Kind::Principal,
    Kind::Alias,
    Kind::KeyStore,
];

/// A key, the records of which there is one, and so many of each kind, on keys that need not exist.
struct Population {
    key: KeyDraft,
    of_kinds: Vec<(Kind, KeyDraft)>,
}

impl Population {
    fn new(kinds: &[Kind], each: usize) -> Self {
        let of_kind = |kind: &Kind| {
            let kind = *kind;
            (0..each).map(move |_| (kind, draft(KeyState::Enabled)))
        };
        Self {
            key: draft(KeyState::Enabled),
            of_kinds: kinds.iter().flat_map(of_kind).collect(),
        }
    }

    /// Writes every record again; keys are disabled from the second round on.
    fn changes(&self, round: u8) -> Vec<Change> {
        let head = AuditHead {
            log: [1; 16],
            group: u64::from(round) + 1,
            mac: [2; 32],
        };
        let mut changes = vec![
            change(Kind::Key, &self.key, round),
            Change::PutUsesSince(Timestamp(round.into())),
            Change::PutAuditHead(String::new(), head),
        ];
        let others = self.of_kinds.iter();
        changes.extend(others.map(|(kind, draft)| change(*kind, draft, round)));
        changes
    }
}

/// The record of this kind that belongs to the key.
fn change(kind: Kind, draft: &KeyDraft, round: u8) -> Change {
    let id = draft.key.regional_id();
    match kind {
        Kind::Key => Change::PutKey(KeyDraft {
            key: KmsKey {
                state: match round {
                    0 => KeyState::Enabled,
                    _ => KeyState::Disabled,
                },
                description: format!("round {round}"),
                ..draft.key.clone()
            },
            materials: draft.materials.clone(),
            secret: None,
        }),
        Kind::KeyPolicy => {
            let policy = format!(
                r#"{{"Id":"round {round}","Statement":{{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}}}"#
            );
            Change::PutKeyPolicy(id, Arc::new(KeyPolicy::parse(&policy).unwrap()))
        }
        Kind::Grant => {
            let grant = access::grant(id, 1, Some(true));
            Change::PutGrant(Arc::new(Grant {
                id: grant.id,
                creation_date: Timestamp(round.into()),
                key: id,
                parameters: grant.parameters.clone(),
                issuing_account: account(),
            }))
        }
        Kind::Principal => {
            let policy = format!(
                r#"{{"Statement":{{"Sid":"Round{round}","Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}}}"#
            );
            let policy = Arc::new(PolicyDocument::parse(&policy).unwrap());
            let arn = format!("arn:aws:iam::111122223333:user/{}", id.id);
            let principal = Principal::new(&arn, vec![policy]).unwrap();
            Change::PutPrincipal(PrincipalEntry::new(principal, Vec::new()))
        }
        Kind::Alias => Change::PutAlias(Alias {
            name: format!("alias/{}", id.id).parse().unwrap(),
            last_updated_date: Timestamp(round.into()),
            ..alias(id)
        }),
        Kind::KeyStore => Change::PutKeyStore(KeyStoreEntry {
            name: format!("round {round}"),
            ..key_stores::key_store(KeyStoreId::from_random(*id.id.bytes()))
        }),
        Kind::Head | Kind::Audit | Kind::Uses => panic!("there is one of these"),
    }
}

/// The rows of a store at three times, and its root key.
struct Copies {
    place: TestStore,
    rounds: [Rows; 3],
}

type Rows = BTreeMap<(Kind, String), Record>;

async fn copies(kinds: &[Kind], each: usize) -> Copies {
    let place = TestStore::new();
    let population = Population::new(kinds, each);
    let mut rounds = [Rows::new(), Rows::new(), Rows::new()];
    let mut store = place.create().await;
    for (round, rows) in (0..).zip(&mut rounds) {
        apply(&store, population.changes(round)).await.unwrap();
        store.close().await.unwrap();
        let contents = Contents::of(&place.path()).await;
        let named = |record: Record| ((record.kind, record.id.clone()), record);
        *rows = contents.records.into_iter().map(named).collect();
        store = place.open().await.unwrap();
    }
    store.close().await.unwrap();
    Copies { place, rounds }
}

fn format_2(rows: &Rows) -> Contents {
    Contents {
        format: TABLES,
        records: rows.values().cloned().collect(),
        roster: Vec::new(),
    }
}

/// The records in the form of a release that knew only format 1.
fn format_1(root: &RootKey, rows: &Rows) -> Contents {
    let key = root.subkey("head sum");
    let mut contents = Contents {
        format: FORMAT_OF_OLD,
        records: Vec::new(),
        roster: Vec::new(),
    };
    let mut sum = [0; 32];
    for record in rows.values().filter(|record| record.kind != Kind::Head) {
        let term = record::term(&key, record);
        toggle(&mut sum, &term);
        let listed = (record.kind, record.id.clone(), term.to_vec());
        contents.roster.push(listed);
        contents.records.push(record.clone());
    }
    let (sealer, head) = Sealer::open_head(root, &rows[&(Kind::Head, String::new())]).unwrap();
    let head = Head {
        format: FORMAT_OF_OLD,
        sum,
        ..head
    };
    let sealed = sealer.seal_head(&head, &Entropy::os()).unwrap();
    contents.records.push(sealed);
    contents
}

type Roster = BTreeMap<(Kind, String), Term>;

fn roster(contents: &Contents) -> Roster {
    let named = |(kind, id, term): &(Kind, String, Vec<u8>)| {
        ((*kind, id.clone()), Term::try_from(&term[..]).unwrap())
    };
    contents.roster.iter().map(named).collect()
}

fn xor(left: &Term, right: &Term) -> Term {
    let mut sum = *left;
    toggle(&mut sum, right);
    sum
}

fn highest_bit(term: &Term) -> Option<usize> {
    let byte = term.iter().position(|byte| *byte != 0)?;
    Some(byte * 8 + term[byte].leading_zeros() as usize)
}

/// Which of `differences` sum up to `target`: elimination over GF(2).
fn solve(differences: &[Term], target: Term) -> Option<Vec<usize>> {
    type Used = Vec<bool>;
    fn reduce(basis: &BTreeMap<usize, (Term, Used)>, term: &mut Term, used: &mut Used) {
        while let Some((other, others)) = highest_bit(term).and_then(|bit| basis.get(&bit)) {
            toggle(term, other);
            used.iter_mut()
                .zip(others)
                .for_each(|(one, two)| *one ^= *two);
        }
    }
    let mut basis = BTreeMap::new();
    for (number, difference) in differences.iter().enumerate() {
        let (mut term, mut used) = (*difference, vec![false; differences.len()]);
        used[number] = true;
        reduce(&basis, &mut term, &mut used);
        if let Some(bit) = highest_bit(&term) {
            basis.insert(bit, (term, used));
        }
    }
    let (mut term, mut used) = (target, vec![false; differences.len()]);
    reduce(&basis, &mut term, &mut used);
    let chosen = (0..differences.len()).filter(|number| used[*number]);
    (term == [0; 32]).then(|| chosen.collect())
}

/// Puts the rows of these names back as they were.
fn put_back(contents: &mut Contents, old: &Contents, names: &[(Kind, String)]) {
    let listed = roster(old);
    for name in names {
        let is = |record: &&mut Record| (record.kind, &record.id) == (name.0, &name.1);
        let row = contents.records.iter_mut().find(is).unwrap();
        let mut records = old.records.iter();
        *row = records
            .find(|record| (record.kind, &record.id) == (name.0, &name.1))
            .unwrap()
            .clone();
        for (kind, id, term) in &mut contents.roster {
            if (*kind, &*id) == (name.0, &name.1) {
                *term = listed[name].to_vec();
            }
        }
    }
}

async fn verify(copies: &Copies, contents: Contents) -> Result<Loaded, Corrupt> {
    contents.verified(&copies.place.root).await
}

/// The head of a set that is not the one of the last round.
fn is_set(found: Result<Loaded, Corrupt>) {
    match found.err() {
        Some(Corrupt::Set { revision: 4, .. }) => {}
        Some(other) => panic!("refused for another reason: {other}"),
        None => panic!("records that were put back went unnoticed"),
    }
}

#[tokio::test]
async fn store_1_the_equations_that_format_1_fell_to_put_nothing_back() {
    for kind in MANY {
        let copies = copies(&[kind], EACH).await;
        let root = &copies.place.root;
        let [old, _, new] = &copies.rounds;
        let (old_1, new_1) = (format_1(root, old), format_1(root, new));
        let (old_terms, new_terms) = (roster(&old_1), roster(&new_1));
        let difference = |name: &(Kind, String)| xor(&old_terms[name], &new_terms[name]);
        let key = old.keys().find(|(kind, _)| *kind == Kind::Key).unwrap();
        let alone = [Kind::Audit, Kind::Uses].map(|kind| (kind, String::new()));
        for target in [key, &alone[0], &alone[1]] {
            let helpers = old.keys().filter(|name| name.0 == kind && *name != target);
            let helpers: Vec<_> = helpers.collect();
            let differences: Vec<_> = helpers.iter().map(|name| difference(name)).collect();
            let chosen = solve(&differences, difference(target)).unwrap();
            let mut names: Vec<_> = chosen.iter().map(|one| helpers[*one].clone()).collect();
            names.push(target.clone());

            let mut forged = format_1(root, new);
            put_back(&mut forged, &old_1, &names);
            let found = verify(&copies, forged)
                .await
                .map_err(|error| error.to_string());
            is_old(&found.unwrap().verified.snapshot, target);

            let mut forged = format_2(new);
            put_back(&mut forged, &format_2(old), &names);
            is_set(verify(&copies, forged).await);
        }
    }
}

/// Whether the record is that of the first round.
fn is_old(snapshot: &Snapshot, (kind, id): &(Kind, String)) {
    match kind {
        Kind::Key => {
            let id: RegionalId = id.parse().unwrap();
            assert_eq!(snapshot.keys[&id].key.state, KeyState::Enabled);
        }
        Kind::Audit => assert_eq!(snapshot.audit_head("").unwrap().group, 1),
        _ => {
            let uses = snapshot.last_uses.as_ref().unwrap();
            assert_eq!(uses.since, Timestamp(0));
        }
    }
}

#[tokio::test]
async fn store_1_no_selection_of_older_records_stands_for_the_last_ones() {
    const FEW: usize = 20;
    let copies = copies(&MANY, FEW).await;
    let [first, second, last] = &copies.rounds;
    assert!(verify(&copies, format_2(last)).await.is_ok());
    let names = |kind: Kind, count: usize| -> Vec<(Kind, String)> {
        let of_kind = last.keys().filter(|name| name.0 == kind);
        of_kind.take(count).cloned().collect()
    };
    for kind in MANY {
        for count in [1, 2, 3, FEW] {
            for (other, beside) in [(kind, 0), (Kind::Audit, 1), (Kind::Uses, 1), (Kind::Key, 7)] {
                // From one older copy, and from two.
                let mut forged = format_2(last);
                put_back(&mut forged, &format_2(first), &names(kind, count));
                put_back(&mut forged, &format_2(second), &names(other, beside));
                is_set(verify(&copies, forged).await);
            }
        }
    }
    for old in [first, second] {
        let mut forged = format_2(last);
        let all: Vec<_> = old
            .keys()
            .filter(|name| name.0 != Kind::Head)
            .cloned()
            .collect();
        put_back(&mut forged, &format_2(old), &all);
        is_set(verify(&copies, forged).await);
    }
    // Dropped, of each kind.
    for name in last.keys().filter(|name| name.0 != Kind::Head).step_by(7) {
        let mut forged = format_2(last);
        let is = |record: &Record| (record.kind, &record.id) == (name.0, &name.1);
        forged.records.retain(|record| !is(record));
        is_set(verify(&copies, forged).await);
    }
    // There twice, in one version and in two: a sum would not show a pair.
    for old in [first, last] {
        let mut forged = format_2(last);
        let name = &names(Kind::Key, 1)[0];
        for _ in 0..2 {
            forged.records.push(old[name].clone());
        }
        let found = verify(&copies, forged).await.err();
        assert_eq!(found, Some(Corrupt::Twice(name.0, name.1.clone())));
    }
    // Two rows' bodies swapped; one of a later revision than the head's.
    let mut forged = format_2(last);
    let keys = names(Kind::Key, 2);
    let at = |name: &(Kind, String)| {
        let mut records = format_2(last).records.into_iter();
        records.position(|record| (record.kind, &record.id) == (name.0, &name.1))
    };
    let (one, two) = (at(&keys[0]).unwrap(), at(&keys[1]).unwrap());
    let body = std::mem::take(&mut forged.records[one].body);
    forged.records[one].body = std::mem::replace(&mut forged.records[two].body, body);
    let found = verify(&copies, forged).await.err();
    assert!(matches!(found, Some(Corrupt::Record(Kind::Key, ..))));
    let mut older = first.clone();
    older.insert(keys[0].clone(), last[&keys[0]].clone());
    let found = verify(&copies, format_2(&older)).await.err();
    assert!(matches!(found, Some(Corrupt::Newer(Kind::Key, _, 4))));
}

#[tokio::test]
async fn store_1_a_record_that_was_deleted_does_not_come_back() {
    let (place, _) = filled().await;
    let before = Contents::of(&place.path()).await;
    let store = place.open().await.unwrap();
    let name = "alias/containers".parse().unwrap();
    apply(
        &store,
        vec![Change::RemoveAlias(RegionNumber::HOME, account(), name)],
    )
    .await
    .unwrap();
    store.close().await.unwrap();
    let mut forged = Contents::of(&place.path()).await;
    let mut records = before.records.into_iter();
    let alias = records.find(|record| record.kind == Kind::Alias).unwrap();
    forged.records.push(alias);
    let found = forged.verified(&place.root).await.err();
    assert_eq!(
        found,
        Some(Corrupt::Set {
            revision: 5,
            found: 3,
            expected: 2
        })
    );
}

#[tokio::test]
async fn store_1_what_lies_in_a_row_when_it_is_replaced_does_not_enter_the_sum() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    let old = std::fs::read(place.path()).unwrap();
    let set = |state| {
        let key = &store.snapshot().keys[&ids[0]];
        Change::PutKey(key.with_key(KmsKey {
            state,
            ..key.key.clone()
        }))
    };
    apply(&store, vec![set(KeyState::Disabled)]).await.unwrap();
    // While the daemon runs, the row of before is put in the place of the one that it wrote.
    let copy = place.folder.path().join("old.sqlite");
    std::fs::write(&copy, old).unwrap();
    let was = Contents::of(&copy).await;
    let id = ids[0].id.to_string();
    let mut records = was.records.into_iter();
    let row = records
        .find(|record| record.kind == Kind::Key && record.id == id)
        .unwrap();
    let mut beside = connection(&place.path()).await;
    sqlx::query("UPDATE record SET revision = $1, body = $2 WHERE kind = 'key' AND id = $3")
        .bind(i64::try_from(row.revision).unwrap())
        .bind(row.body)
        .bind(&id)
        .execute(&mut beside)
        .await
        .unwrap();
    beside.close().await.unwrap();
    apply(&store, vec![set(KeyState::Enabled)]).await.unwrap();
    store.close().await.unwrap();
    // The change has overwritten it, and the head is that of the records that are there.
    place.open().await.unwrap().close().await.unwrap();
}
