//! What a database has to carry for its nodes: bytes of the protocol, CPU time of the connections'
//! processes, and bytes of the write-ahead log, for a look, a change and a start.
//!
//! Two keystores are open in this process. One changes; the other follows it, over a relay that
//! counts. Pauses between looks leave time for the processes to fall asleep, as those of many nodes
//! do; without a pause, many at once show what a core can carry.

use crate::database::{Relay, Server};
use crate::processes::on_a_core;
use crate::rows::{ROUNDS, median};
use keymill::clock::{Clock, Timestamp};
use keymill::crypto::block_cipher::BlockCipher;
use keymill::crypto::entropy::Entropy;
use keymill::key::arn::AccountId;
use keymill::key::material::BackingKey;
use keymill::key::regions::{RegionalId, Regions};
use keymill::key::{KeyId, KmsKey};
use keymill::keystore::freshness::Look;
use keymill::keystore::last_use::{LastUse, UsesShard};
use keymill::keystore::postgres::{Access, PostgresWatch};
use keymill::keystore::store::Watch;
use keymill::keystore::{
    Alias, Change, KeyDraft, Keystore, KeystoreError, RootKey, RootKeyFile, SharedStore,
};
use keymill::metrics::Metrics;
use keymill::operation::Operation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Keys of the store, each with an alias, unless `MOST` in the environment bounds them.
const KEYS: usize = 100_000;
/// Keys of one change while it is filled.
const FILL: usize = 1_000;
/// Looks that find nothing.
const LOOKS: u32 = 200;
/// Changes of one record that are taken over.
const CHANGES: u32 = 100;
/// Records of last uses that a node writes in one change, and how many such changes.
const SHARDS: usize = 64;
const WRITINGS: u32 = 20;
/// Nodes that look as fast as they can, and for how long.
const WATCHERS: u32 = 64;
const WATCHED: Duration = Duration::from_secs(3);
/// Until the processes of connections that were closed have ended.
const CALM: Duration = Duration::from_millis(200);
const DATABASE: &str = "burden";

pub(crate) fn burden(server: &Server) {
    let most = std::env::var("MOST").map_or(KEYS, |most| most.parse().unwrap());
    let (bench, keys) = (Bench::on(server), KEYS.min(most));
    let direct = bench.shared(&server.database(DATABASE), "one");
    let begun = direct.begin(&bench.root, &bench.entropy);
    bench.runtime.block_on(begun).unwrap();
    let one = bench.open(&direct);
    let (one, its) = (one.keystore, one.connections);
    bench.fill(&one, keys);
    println!(
        "\n| {keys} keys, an alias each | bytes to the database | bytes from it | its CPU, µs |"
    );
    println!("|---|---|---|---|");
    let through = bench.shared(&bench.relay.url(DATABASE), "two");
    let starts: Vec<_> = (0..ROUNDS).map(|_| bench.start(&through)).collect();
    let at = |at: usize| median(starts.iter().map(|start| start[at]).collect());
    Cost([at(0), at(1), at(2)]).print("a start");
    let two = bench.open(&through);
    let mut its_own = two.connections;
    let mut follower = through.follower(Arc::new(two.keystore));
    let mut follow = || drop(bench.runtime.block_on(follower.follow()));
    // The first look makes a connection of its own.
    its_own.extend(bench.connections_of(&mut follow));
    bench.cost(&its_own, LOOKS, &mut follow).print("a look");
    bench.looks_without_a_pause(&direct.access);

    let mut aliases = bench.keys(&one).into_iter().zip(0..);
    let mut change = || {
        let (key, number) = aliases.next().unwrap();
        bench.put(&one, vec![Change::PutAlias(alias(key, number))]);
    };
    let changed = bench.cost(&its, CHANGES, &mut change);
    follow();
    let both = || {
        change();
        follow();
    };
    let taken = bench.cost(&its_own, CHANGES, both);
    taken.print("a look that finds one record, and takes it over");

    let mut by_shard: BTreeMap<UsesShard, Vec<RegionalId>> = BTreeMap::new();
    for key in bench.keys(&one) {
        by_shard.entry(UsesShard::of(key)).or_default().push(key);
    }
    let shards: Vec<_> = by_shard.into_iter().collect();
    let mut writings = shards.chunks(SHARDS);
    bench.put(&one, vec![Change::PutUsesSince(Timestamp(0))]);
    follow();
    let mut uses = 0;
    let both = || {
        let written = writings.next().unwrap();
        uses += written.iter().map(|(_, keys)| keys.len()).sum::<usize>();
        bench.put(&one, written.iter().map(last_uses).collect());
        follow();
    };
    let taken = bench.cost(&its_own, WRITINGS, both);
    taken.print(&format!("one that finds {SHARDS} records of last uses"));
    let uses = uses as f64 / f64::from(WRITINGS);
    println!("\nlast uses of {uses:.0} keys are in {SHARDS} records");
    println!("a start takes {:.2} s", at(3));
    let Cost([.., cpu]) = changed;
    println!("a change of one record takes {cpu:.0} µs of CPU of the database");
}

/// Bytes to the database, bytes from it, and microseconds of CPU.
struct Cost([f64; 3]);

impl Cost {
    fn print(&self, what: &str) {
        let Self([to, from, cpu]) = self;
        println!("| {what} | {to:.0} | {from:.0} | {cpu:.1} |");
    }
}

/// A store that was opened.
struct Opened {
    keystore: Keystore,
    /// The processes of the server that it is connected to.
    connections: BTreeSet<u32>,
    /// How long it took.
    seconds: f64,
}

struct Bench<'a> {
    server: &'a Server,
    relay: Relay,
    runtime: Runtime,
    folder: TempDir,
    root: RootKey,
    entropy: Arc<Entropy>,
}

impl<'a> Bench<'a> {
    fn on(server: &'a Server) -> Self {
        let (folder, entropy) = (tempfile::tempdir().unwrap(), Arc::new(Entropy::os()));
        let root = RootKeyFile::clear(&folder.path().join("root.key"))
            .create(&entropy)
            .unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            server,
            relay: Relay::to(server),
            runtime: runtime.enable_all().build().unwrap(),
            folder,
            root,
            entropy,
        }
    }

    /// A node of this name, whose pauses between looks are as short as a node's can be.
    fn shared(&self, url: &str, node: &str) -> SharedStore {
        SharedStore {
            access: Access {
                url: url.parse().unwrap(),
                password_file: None,
                ca_file: None,
            },
            direct: None,
            look_every: Duration::from_millis(1),
            age_max: Duration::from_secs(600),
            confirmed_by: Look::Read,
            path: self.folder.path().join(node).with_extension("db"),
        }
    }

    /// Opens a store.
    fn open(&self, shared: &SharedStore) -> Opened {
        let mut opened = None;
        let connections = self.connections_of(|| {
            let metrics = Arc::new(Metrics::new().unwrap());
            let (regions, entropy) = (Regions::one("aws", "us-east-1"), Arc::clone(&self.entropy));
            let clock = Clock::system();
            let opening = shared.open(&self.root, regions, entropy, metrics);
            let keystore = self.runtime.block_on(opening).unwrap();
            opened = Some((keystore, clock.monotonic().as_secs_f64()));
        });
        let (keystore, seconds) = opened.unwrap();
        Opened {
            keystore,
            connections,
            seconds,
        }
    }

    /// The connections that are there after this, and were not before.
    fn connections_of(&self, work: impl FnOnce()) -> BTreeSet<u32> {
        self.runtime
            .block_on(async { tokio::time::sleep(CALM).await });
        let before = self.server.connections();
        work();
        &self.server.connections() - &before
    }

    /// What one of so many pieces of work costs at these connections.
    fn cost(&self, connections: &BTreeSet<u32>, times: u32, mut work: impl FnMut()) -> Cost {
        let cpu = || {
            connections
                .iter()
                .map(|id| on_a_core(*id))
                .sum::<Duration>()
        };
        let before = cpu();
        self.relay.bytes();
        (0..times).for_each(|_| work());
        let [to, from] = self.relay.bytes();
        let cpu = (cpu() - before).as_secs_f64() * 1e6;
        Cost([to, from, cpu].map(|all| all / f64::from(times)))
    }

    /// Bytes to and from, CPU and seconds of a start.
    fn start(&self, shared: &SharedStore) -> [f64; 4] {
        self.relay.bytes();
        let opened = self.open(shared);
        let cpu: Duration = opened.connections.into_iter().map(on_a_core).sum();
        let [to, from] = self.relay.bytes();
        self.runtime.block_on(opened.keystore.close()).unwrap();
        [to, from, cpu.as_secs_f64() * 1e6, opened.seconds]
    }

    fn looks_without_a_pause(&self, access: &Access) {
        let mut watches = JoinSet::new();
        let own = self.connections_of(|| {
            let made = self.runtime.block_on(async {
                let mut made = Vec::new();
                for _ in 0..WATCHERS {
                    let works = metrics::Gauge::noop();
                    let mut watch = PostgresWatch::new(access.clone(), None, String::new(), works);
                    watch.head().await.unwrap();
                    made.push(watch);
                }
                made
            });
            for mut watch in made {
                watches.spawn_on(
                    async move {
                        let (clock, mut looks) = (Clock::system(), 0_u32);
                        while clock.monotonic() < WATCHED {
                            watch.head().await.unwrap();
                            looks += 1;
                        }
                        (watch, looks)
                    },
                    self.runtime.handle(),
                );
            }
        });
        let cpu = || own.iter().map(|id| on_a_core(*id)).sum::<Duration>();
        let before = cpu();
        // The connections are there until their processes have been asked.
        let watched = self.runtime.block_on(watches.join_all());
        let looks: u32 = watched.iter().map(|(_, looks)| looks).sum();
        let each = (cpu() - before).as_secs_f64() * 1e6 / f64::from(looks);
        println!(
            "| one of {looks} looks, {WATCHERS} at once without a pause | – | – | {each:.1} |"
        );
    }

    fn put(&self, keystore: &Keystore, changes: Vec<Change>) {
        let applied = keystore.apply(|_| Ok::<_, KeystoreError>((changes.clone(), ())));
        self.runtime.block_on(applied).unwrap();
    }

    fn keys(&self, keystore: &Keystore) -> Vec<RegionalId> {
        keystore.snapshot().keys.keys().copied().collect()
    }

    fn fill(&self, keystore: &Keystore, keys: usize) {
        for _ in 0..keys / FILL {
            let drafts = (0..FILL).map(|_| self.draft());
            let changes = drafts.flat_map(|draft| {
                let key = draft.key.regional_id();
                [Change::PutKey(draft), Change::PutAlias(alias(key, 0))]
            });
            self.put(keystore, changes.collect());
        }
        let client = self.server.client(DATABASE);
        let vacuumed = client.batch_execute("VACUUM ANALYZE");
        self.server.runtime.block_on(vacuumed).unwrap();
    }

    fn draft(&self) -> KeyDraft {
        let mut bytes = [0; 16];
        self.entropy.draw(&mut bytes).unwrap();
        let (id, now) = (KeyId::from_random(bytes), Timestamp(0));
        let material = BackingKey::draw(BlockCipher::Aes256, id, 1, now, &self.entropy);
        KeyDraft {
            key: KmsKey::new(id, account(), now),
            materials: vec![Arc::new(material.unwrap())],
            secret: None,
        }
    }
}

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

fn alias(key: RegionalId, date: u64) -> Alias {
    Alias {
        region: key.region,
        account: account(),
        name: format!("alias/containers/{}", key.id).parse().unwrap(),
        target: key.id,
        creation_date: Timestamp(0),
        last_updated_date: Timestamp(date),
    }
}

/// The record of a shard whose keys were all used.
fn last_uses((shard, keys): &(UsesShard, Vec<RegionalId>)) -> Change {
    let used = LastUse {
        operation: Operation::GenerateDataKeyWithoutPlaintext,
        time: Timestamp(1_800_000_000_000),
        event_id: "1f0355b1-f53d-487c-8a81-fd035b9b5b8d".to_owned(),
        request_id: "4112f4d6-db54-4af4-ae30-c55a22a8dfae".to_owned(),
    };
    let uses = keys.iter().map(|key| (*key, Arc::new(used.clone())));
    Change::PutLastUses(*shard, uses.collect())
}
