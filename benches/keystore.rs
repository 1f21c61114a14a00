//! What a keystore costs as it grows: a change, a start, the memory of a key, and a lookup.
//!
//! A store is filled with keys, each with an alias and some with ten grants. Then a process of its
//! own opens it, `ROUNDS` times. *Start* is the time until the store is verified and its snapshot
//! is there, without the daemon around it. *Memory* is what is resident then, less what was before.
//! *A change* is one key, alias, state or grant: its CPU time on all threads of the process, until
//! it is committed and published. *A lookup* is of keys in random order.
//!
//! `MOST` in the environment bounds the keys, to try the bench out: then no goal is compared.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod machine;
mod rows;

use keymill::clock::{Clock, Timestamp};
use keymill::crypto::block_cipher::BlockCipher;
use keymill::crypto::entropy::Entropy;
use keymill::key::arn::AccountId;
use keymill::key::material::BackingKey;
use keymill::key::regions::{RegionalId, Regions};
use keymill::key::{KeyId, KeyState, KmsKey};
use keymill::keystore::{Alias, Change, KeyDraft, Keystore, KeystoreError, RootKeyFile};
use keymill::metrics::Metrics;
use keymill::operation::Action;
use keymill::policy::grant::{Draft, GrantId, Named};
use keymill::policy::{Grant, GrantParameters};
use rows::{Goal, ROUNDS, Row, median};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// The folder of the store that a process of its own opens.
const FOLDER: &str = "KEYSTORE_BENCH_FOLDER";
/// Keys, and grants of each.
const SIZES: [(usize, usize); 4] = [(100, 0), (10_000, 0), (100_000, 0), (100_000, 10)];
/// Keys of one change while a store is filled.
const FILL: usize = 1_000;
/// Changes of each kind that are measured together.
const CHANGES: usize = 100;
const LOOKUPS: usize = 1_000_000;
const KIB: f64 = 1024.0;

/// What one process measures, in the order of [`Measured::NAMES`].
struct Measured([f64; 7]);

impl Measured {
    const NAMES: [&str; 7] = [
        "start, s",
        "memory of a key, KiB",
        "create, ms",
        "alias, ms",
        "disable, ms",
        "grant, ms",
        "lookup, ns",
    ];

    fn worst_change(&self) -> f64 {
        self.0[2..6].iter().copied().fold(0.0, f64::max)
    }
}

fn main() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        println!(
            "{}",
            measured(Path::new(&folder))
                .map(|one| one.to_string())
                .join(" ")
        );
        return;
    }
    if !machine::begins() {
        return;
    }
    let most = std::env::var("MOST").map_or(usize::MAX, |most| most.parse().unwrap());
    println!("| keys | grants | {} |", Measured::NAMES.join(" | "));
    println!("|---|---|{}", "---|".repeat(Measured::NAMES.len()));
    let mut rounds = Vec::new();
    for (keys, grants) in SIZES {
        let keys = keys.min(most);
        rounds = of_size(keys, grants);
        if (keys, grants) == SIZES[2] {
            let memory = rounds.iter().map(|one: &Measured| one.0[1]);
            let row = Row::new("memory of a key and its alias, 100,000 keys", "KiB");
            row.alone("keymill", memory.collect(), Goal::AtMost(2.0));
        }
    }
    if most < SIZES[3].0 {
        return;
    }
    let start = rounds.iter().map(|one| one.0[0]);
    let row = Row::new("start with 100,000 keys and 1,000,000 grants", "s");
    row.alone("keymill", start.collect(), Goal::AtMost(5.0));
    let change = rounds.iter().map(Measured::worst_change);
    let row = Row::new(
        "CPU of a change among 100,000 keys and 1,000,000 grants",
        "ms",
    );
    row.alone("keymill", change.collect(), Goal::AtMost(5.0));
}

/// Fills a store and measures it in processes of their own.
fn of_size(keys: usize, grants: usize) -> Vec<Measured> {
    // In memory: no question is about a disk.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fill(folder.path(), keys, grants);
    let measure = |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.env(FOLDER, folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers = text.split_whitespace().map(|word| word.parse().unwrap());
        Measured(numbers.collect::<Vec<_>>().try_into().unwrap())
    };
    let rounds: Vec<Measured> = (0..ROUNDS).map(measure).collect();
    let medians = (0..Measured::NAMES.len()).map(|at| {
        let values = rounds.iter().map(|one| one.0[at]);
        format!("{:.3}", median(values.collect()))
    });
    let medians: Vec<_> = medians.collect();
    println!("| {keys} | {} | {} |", keys * grants, medians.join(" | "));
    rounds
}

fn fill(folder: &Path, keys: usize, grants: usize) {
    let (runtime, entropy) = (runtime(), Arc::new(Entropy::os()));
    let root = RootKeyFile::clear(&folder.join("root.key"))
        .create(&entropy)
        .unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let path = folder.join("keystore.db");
    let created = Keystore::create(&path, &root, regions(), Arc::clone(&entropy), metrics);
    let keystore = runtime.block_on(created).unwrap();
    for begin in (0..keys).step_by(FILL) {
        let drafts = (begin..keys.min(begin + FILL)).map(|_| draft(&entropy));
        let changes = drafts.flat_map(|draft| {
            let key = draft.key.regional_id();
            let own = [Change::PutKey(draft), Change::PutAlias(alias(key))];
            own.into_iter()
                .chain((0..grants).map(move |at| Change::PutGrant(grant(key, at))))
        });
        put(&runtime, &keystore, changes.collect());
    }
    runtime.block_on(keystore.close()).unwrap();
}

/// What the process of a round measures.
fn measured(folder: &Path) -> [f64; 7] {
    let (runtime, entropy) = (runtime(), Arc::new(Entropy::os()));
    let root = RootKeyFile::clear(&folder.join("root.key")).read().unwrap();
    let (metrics, path) = (
        Arc::new(Metrics::new().unwrap()),
        folder.join("keystore.db"),
    );
    let before = resident();
    let clock = Clock::system();
    let opened = Keystore::open(&path, &root, regions(), Arc::clone(&entropy), metrics);
    let keystore = runtime.block_on(opened).unwrap();
    let start = clock.monotonic().as_secs_f64();
    let memory = resident() - before;
    let snapshot = keystore.snapshot();
    // The order of a hash of the ids: neighbours are far apart.
    let mut ids: Vec<RegionalId> = snapshot.keys.keys().copied().collect();
    ids.sort_by_key(|key| key.id.bytes().iter().rev().copied().collect::<Vec<u8>>());
    let lookups = ids.iter().cycle().take(LOOKUPS);
    let clock = Clock::system();
    for id in lookups {
        black_box(snapshot.keys.get(black_box(id)).unwrap());
    }
    let lookup = clock.monotonic().as_secs_f64() * 1e9 / LOOKUPS as f64;
    drop(snapshot);
    let of_change = |change: &mut dyn FnMut() -> Change| {
        let changes: Vec<Change> = (0..CHANGES).map(|_| change()).collect();
        let before = cpu_seconds();
        for change in changes {
            put(&runtime, &keystore, vec![change]);
        }
        (cpu_seconds() - before) * 1e3 / CHANGES as f64
    };
    let mut new = Vec::new();
    let create = of_change(&mut || {
        let draft = draft(&entropy);
        new.push(draft.key.regional_id());
        Change::PutKey(draft)
    });
    let mut keys = new.clone().into_iter();
    let alias = of_change(&mut || Change::PutAlias(alias(keys.next().unwrap())));
    let mut keys = new.into_iter();
    let disable = of_change(&mut || {
        let snapshot = keystore.snapshot();
        let entry = &snapshot.keys[&keys.next().unwrap()];
        let key = KmsKey {
            state: KeyState::Disabled,
            ..entry.key.clone()
        };
        Change::PutKey(entry.with_key(key))
    });
    let mut keys = ids.iter().cycle().copied();
    let mut number = 100;
    let grant = of_change(&mut || {
        number += 1;
        Change::PutGrant(grant(keys.next().unwrap(), number))
    });
    let memory = memory / KIB / ids.len() as f64;
    [start, memory, create, alias, disable, grant, lookup]
}

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap()
}

fn regions() -> Regions {
    Regions::one("aws", "us-east-1")
}

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

fn put(runtime: &Runtime, keystore: &Keystore, changes: Vec<Change>) {
    let applied = keystore.apply(|_| Ok::<_, KeystoreError>((changes.clone(), ())));
    runtime.block_on(applied).unwrap();
}

fn draft(entropy: &Entropy) -> KeyDraft {
    let mut bytes = [0; 16];
    entropy.draw(&mut bytes).unwrap();
    let id = KeyId::from_random(bytes);
    let material = BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(0), entropy).unwrap();
    KeyDraft {
        key: KmsKey::new(id, account(), Timestamp(0)),
        materials: vec![Arc::new(material)],
        secret: None,
    }
}

fn alias(key: RegionalId) -> Alias {
    Alias {
        region: key.region,
        account: account(),
        name: format!("alias/containers/{}", key.id).parse().unwrap(),
        target: key.id,
        creation_date: Timestamp(0),
        last_updated_date: Timestamp(0),
    }
}

fn grant(key: RegionalId, number: usize) -> Arc<Grant> {
    let grantee = format!("arn:aws:iam::111122223333:role/consumer-{number}");
    let parameters = GrantParameters::check(Draft {
        grantee: Named::Principal(&grantee),
        retiring_principal: Some(Named::Principal("arn:aws:iam::111122223333:role/operator")),
        operations: [Action::Decrypt, Action::DescribeKey].into_iter().collect(),
        equals: None,
        subset: None,
        source_arn: None,
        name: None,
    });
    let mut id = [7; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Arc::new(Grant {
        id: GrantId(id),
        key,
        parameters: parameters.unwrap(),
        issuing_account: account(),
        creation_date: Timestamp(0),
    })
}

/// Of this process, in bytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<f64>().unwrap() * KIB
}

/// Of all threads of this process.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
