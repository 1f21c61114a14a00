//! Daemons that share one PostgreSQL: what that costs a data key, what a change costs, when another
//! node knows of it, and what the database has to carry.
//!
//! *CPU a key.* Two daemons under load at once, beside one of them alone: user and system time of
//! the daemons, divided among their keys. Each daemon has a core, with its client. *Queries* are
//! counted by the database, while these keys are made.
//!
//! *PostgreSQL beside SQLite.* Two daemons on core 0, which take turns.
//!
//! *`CreateKey`* is beside a transaction of one INSERT and one UPDATE of as many bytes on the same
//! server, sent in one message. Sent in four, as a client's library does it, it is a row as well.
//!
//! *Propagation.* A key is disabled on one node, and two others are asked for a data key of it
//! until they refuse. The time is from the answer of one to the answer of the other.
//!
//! `PARTS` in the environment chooses some of `data_path`, `create_key`, `propagation` and
//! `burden`; `MOST` bounds the keys of the last one, to try it out.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod burden;
mod closed_loop;
mod database;
mod machine;
mod processes;
mod rows;
mod served;

use closed_loop::{closed_loop, microseconds};
use database::Server;
use keymill::clock::Clock;
use processes::ticks;
use rows::{Goal, ROUNDS, Row, median};
use serde_json::{Value, json};
use served::{CLIENT_CORE, Call, Client, Daemon, SERVER_CORE, Transport, pin, unsigned_request};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Those of the two daemons whose CPU is compared.
const CORES: [usize; 2] = [SERVER_CORE, CLIENT_CORE];
const CONNECTIONS: usize = 64;
/// Closed loops of a turn of CPU time, which is counted in ticks of 10 ms.
const LOOPS: usize = 4;
/// Batches of such a turn.
const BATCHES: usize = 150;
const BATCH: Call = Call::Batch(65_536);
const TICK_NS: f64 = 1e7;
/// Turns of PostgreSQL and SQLite: a few percent are to be seen.
const TURNS_BESIDE_SQLITE: usize = 21;
/// Queries of a node in a minute, beside its looks: it seals the head of its audit log, looks for
/// what is due by the clock, and takes over what the other node has written.
const OTHERS_A_MINUTE: f64 = 8.0;
/// The shortest time between two looks, with the defaults.
const LOOK_SECONDS_MIN: f64 = 0.8;
/// Keys that are created in a turn.
const CREATED: usize = 150;
/// Keys that are disabled.
const DISABLED: usize = 120;
/// Between two questions whether a key is refused.
const ASK_EVERY: Duration = Duration::from_micros(200);
/// What a change may take to be known everywhere, in milliseconds.
const KNOWN_MS_MAX: f64 = 2_000.0;

fn main() {
    if !machine::begins() {
        return;
    }
    let chosen = std::env::var("PARTS").unwrap_or_default();
    let server = Server::start();
    let parts: [(&str, Part); 4] = [
        ("data_path", data_path),
        ("create_key", create_key),
        ("propagation", propagation),
        ("burden", burden::burden),
    ];
    for (name, part) in parts {
        if chosen.is_empty() || chosen.split(',').any(|one| one == name) {
            // A part may bind its thread to a core.
            thread::scope(|scope| scope.spawn(|| part(&server)).join().unwrap());
        }
    }
}

type Part = fn(&Server);

/// A database, and what its nodes share beside it.
struct Fleet {
    url: String,
    folder: TempDir,
}

enum Hints {
    On,
    Off,
}

impl Fleet {
    fn on(server: &Server, database: &str) -> Self {
        let (url, folder) = (server.database(database), tempfile::tempdir().unwrap());
        Self { url, folder }
    }

    fn node(&self, core: Option<usize>, hints: Hints) -> Daemon {
        let root_key: PathBuf = self.folder.path().join("root.key");
        let mut variables = vec![
            ("KEYMILL_STORE__URL", self.url.as_str()),
            ("KEYMILL_STORE__ROOT_KEY", root_key.to_str().unwrap()),
        ];
        if let Hints::On = hints {
            variables.push(("KEYMILL_STORE__NOTIFY_URL", &self.url));
        }
        Daemon::start_with(core, &variables)
    }
}

fn data_path(server: &Server) {
    let fleet = Fleet::on(server, "data_path");
    let nodes = CORES.map(|core| fleet.node(Some(core), Hints::Off));
    server.run("SELECT pg_stat_statements_reset()");
    let (clock, before) = (Clock::system(), keys(&[&nodes[0], &nodes[1]]));
    cpu_a_key(&nodes, "single calls", |node| {
        for _ in 0..LOOPS {
            let request = node.boto3_request();
            closed_loop(&node.address(Transport::Unix), &request, CONNECTIONS);
        }
    });
    cpu_a_key(&nodes, "batches", |node| {
        let request = node.request(BATCH, Transport::Unix);
        let mut client = node.address(Transport::Unix).connect();
        client.repeat(&request, BATCHES);
    });
    let made = keys(&[&nodes[0], &nodes[1]]) - before;
    queries(server, made, clock.monotonic());
    let [node, other] = nodes;
    drop(other);
    pin(CLIENT_CORE);
    beside_sqlite(&node);
}

fn keys(nodes: &[&Daemon]) -> f64 {
    let made = nodes
        .iter()
        .map(|node| node.metric("keymill_data_keys_total", ""));
    made.sum()
}

/// Two nodes under this load at once, beside one of them in turn.
fn cpu_a_key(nodes: &[Daemon; 2], name: &str, load: impl Fn(&Daemon) + Sync) {
    let of = |chosen: &[usize]| {
        let chosen_nodes: Vec<&Daemon> = chosen.iter().map(|at| &nodes[*at]).collect();
        let spent = || chosen_nodes.iter().map(|node| ticks(node.pid()));
        let (keys_before, before) = (keys(&chosen_nodes), spent().sum::<u64>());
        thread::scope(|scope| {
            for at in chosen {
                let load = &load;
                scope.spawn(move || {
                    pin(CORES[*at]);
                    load(&nodes[*at]);
                });
            }
        });
        let spent = (spent().sum::<u64>() - before) as f64 * TICK_NS;
        spent / (keys(&chosen_nodes) - keys_before)
    };
    let [mut two, mut one] = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let mut turns: [&mut dyn FnMut(); 2] = [&mut || two.push(of(&[0, 1])), &mut || {
            one.push(of(&[round / 2 % 2]))
        }];
        turns.rotate_left(round % 2);
        turns.into_iter().for_each(|turn| turn());
    }
    Row::new(
        format!("CPU a key, two daemons on one PostgreSQL, {name}"),
        "ns",
    )
    .beside("two", two, "one", one)
    .reach(Goal::AtMost(1.05));
}

/// What the database was asked while two nodes made these keys.
fn queries(server: &Server, keys: f64, time: Duration) {
    let counted = "SELECT CASE WHEN query LIKE 'WITH moved AS%' THEN 'changes' \
            WHEN query LIKE 'SELECT revision, sealed%' THEN 'looks' \
            WHEN query LIKE '%FROM keymill.record WHERE revision%' THEN 'readings' \
            ELSE 'others' END, sum(calls)::bigint \
        FROM pg_stat_statements AS statement JOIN pg_database ON pg_database.oid = dbid \
        WHERE datname = 'data_path' GROUP BY 1 ORDER BY 1";
    let client = server.client("postgres");
    let rows = server.runtime.block_on(client.query(counted, &[])).unwrap();
    let rows: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let seconds = time.as_secs_f64();
    println!("\nqueries of two nodes that made {keys} keys in {seconds:.1} s: {rows:?}\n");
    assert!(
        rows.iter().any(|(kind, _)| kind == "looks"),
        "none was counted"
    );
    let asked: i64 = rows.iter().map(|(_, times)| times).sum();
    let others = OTHERS_A_MINUTE * (seconds / 60.0).ceil();
    let known = 2.0 * ((seconds / LOOK_SECONDS_MIN).ceil() + others);
    let beyond = (asked as f64 - known).max(0.0);
    Row::new("queries to PostgreSQL for a data key", "queries").alone(
        "keymill",
        vec![beyond / keys],
        Goal::AtMost(0.0),
    );
}

fn beside_sqlite(node: &Daemon) {
    let alone = Daemon::start(Some(SERVER_CORE));
    for (transport, name) in [(Transport::Unix, "Unix socket"), (Transport::Tcp, "TCP")] {
        let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
        for round in 0..TURNS_BESIDE_SQLITE {
            let mut sides = [(node, &mut ours), (&alone, &mut theirs)];
            sides.rotate_left(round % 2);
            for (daemon, loads) in sides {
                let request = daemon.boto3_request();
                loads.push(closed_loop(&daemon.address(transport), &request, CONNECTIONS).rate);
            }
        }
        Row::new(
            format!("whole request, 64 connections, {name}, PostgreSQL beside SQLite"),
            "requests/s",
        )
        .beside("PostgreSQL", ours, "SQLite", theirs)
        .reach(Goal::AtLeast(0.98));
    }
}

fn create_key(server: &Server) {
    let fleet = Fleet::on(server, "create_key");
    let node = fleet.node(None, Hints::Off);
    let mut client = node.address(Transport::Tcp).connect();
    create(&node, &mut client);
    let floor = Floor::beside(server, "create_key");
    let [mut ours, mut whole, mut apart] = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let request = node.admin_request("TrentService.CreateKey", "{}");
        let mut turns: [&mut dyn FnMut(); 3] = [
            &mut || ours.push(p50(|| client.call(&request))),
            &mut || whole.push(p50(|| floor.in_one_message())),
            &mut || apart.push(p50(|| floor.in_four())),
        ];
        turns.rotate_left(round % 3);
        turns.into_iter().for_each(|turn| turn());
    }
    Row::new("CreateKey on PostgreSQL, p50", "µs")
        .beside("keymill", ours.clone(), "INSERT and UPDATE", whole)
        .reach(Goal::AtMost(2.0));
    Row::new("the same, beside them in four messages", "µs")
        .beside("keymill", ours, "INSERT and UPDATE", apart)
        .reach(Goal::Shown);
}

/// The median of as many calls as a turn has, in microseconds.
fn p50(mut call: impl FnMut()) -> f64 {
    let clock = Clock::system();
    let each = (0..CREATED).map(|_| {
        let before = clock.monotonic();
        call();
        microseconds(clock.monotonic() - before)
    });
    median(each.collect())
}

/// A new key's id.
fn create(node: &Daemon, client: &mut Client) -> String {
    let answer = client.answer(&node.admin_request("TrentService.CreateKey", "{}"));
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    answer["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
}

/// Tables as a keystore has them, in a database of their own, with a row of the size of the newest.
struct Floor<'a> {
    server: &'a Server,
    client: tokio_postgres::Client,
    insert: tokio_postgres::Statement,
    update: tokio_postgres::Statement,
    /// Of a record, and of the head.
    bodies: [Vec<u8>; 2],
}

impl<'a> Floor<'a> {
    fn beside(server: &'a Server, database: &str) -> Self {
        let block_on = |sql: &str| {
            let client = server.client(database);
            let row = server.runtime.block_on(client.query_one(sql, &[])).unwrap();
            vec![7; usize::try_from(row.get::<_, i32>(0)).unwrap()]
        };
        let bodies = [
            "SELECT octet_length(sealed) FROM keymill.record ORDER BY revision DESC LIMIT 1",
            "SELECT octet_length(sealed) FROM keymill.head",
        ];
        let bodies = bodies.map(block_on);
        server.database("floor");
        let client = server.client("floor");
        let made = "CREATE TABLE head (one smallint PRIMARY KEY, revision bigint NOT NULL, sealed bytea NOT NULL); \
            CREATE TABLE record (k text PRIMARY KEY, revision bigint NOT NULL, request uuid NOT NULL, sealed bytea); \
            CREATE INDEX record_revision ON record (revision); \
            INSERT INTO head VALUES (1, 1, ''); SET synchronous_commit = on";
        let insert = "INSERT INTO record SELECT 'key ' || gen_random_uuid(), revision + 1, gen_random_uuid(), $1 FROM head";
        let update = "UPDATE head SET revision = revision + 1, sealed = $1 WHERE one = 1";
        let prepared = server.runtime.block_on(async {
            client.batch_execute(made).await?;
            Ok::<_, tokio_postgres::Error>([
                client.prepare(insert).await?,
                client.prepare(update).await?,
            ])
        });
        let [insert, update] = prepared.unwrap();
        Self {
            server,
            client,
            insert,
            update,
            bodies,
        }
    }

    fn in_one_message(&self) {
        let [record, head] = [0, 1]
            .map(|at| hex_simd::encode_to_string(&self.bodies[at], hex_simd::AsciiCase::Lower));
        let sql = format!(
            "BEGIN; \
            INSERT INTO record SELECT 'key ' || gen_random_uuid(), revision + 1, gen_random_uuid(), '\\x{record}' FROM head; \
            UPDATE head SET revision = revision + 1, sealed = '\\x{head}' WHERE one = 1; \
            COMMIT"
        );
        let done = self
            .server
            .runtime
            .block_on(self.client.batch_execute(&sql));
        done.unwrap();
    }

    fn in_four(&self) {
        let [record, head] = &self.bodies;
        let done = self.server.runtime.block_on(async {
            self.client.batch_execute("BEGIN").await?;
            self.client.execute(&self.insert, &[record]).await?;
            self.client.execute(&self.update, &[head]).await?;
            self.client.batch_execute("COMMIT").await
        });
        done.unwrap();
    }
}

fn propagation(server: &Server) {
    let fleet = Fleet::on(server, "propagation");
    let [changer, hinted, looking] =
        [Hints::Off, Hints::On, Hints::Off].map(|hints| fleet.node(None, hints));
    let mut admin = changer.address(Transport::Tcp).connect();
    let keys: Vec<_> = (0..DISABLED)
        .map(|_| create(&changer, &mut admin))
        .collect();
    let mut others = [&hinted, &looking].map(|node| node.address(Transport::Unix).connect());
    let mint = |key: &String| {
        let body = json!({"KeyId": key, "KeySpec": "AES_256"});
        unsigned_request(&body.to_string())
    };
    for client in &mut others {
        while client.status(&mint(keys.last().unwrap())) != 200 {
            thread::sleep(ASK_EVERY);
        }
    }
    assert_eq!(hinted.metric("keymill_keystore_hints", ""), 1.0);
    let mut took = [Vec::new(), Vec::new()];
    for (number, key) in keys.iter().enumerate() {
        // The last refusal came with a look: this is at all moments between two of them, in turn.
        thread::sleep(Duration::from_millis(25 + number as u64 * 618 % 1000));
        let body = json!({"KeyId": key}).to_string();
        let disable = changer.admin_request("TrentService.DisableKey", &body);
        let asked = mint(key);
        let clock = Clock::system();
        admin.call(&disable);
        let answered = clock.monotonic();
        let refused = |client: &mut Client| {
            while client.status(&asked) == 200 {
                thread::sleep(ASK_EVERY);
            }
            clock.monotonic().saturating_sub(answered).as_secs_f64() * 1e3
        };
        thread::scope(|scope| {
            let refused = &refused;
            let waits = others
                .each_mut()
                .map(|client| scope.spawn(move || refused(client)));
            for (took, wait) in took.iter_mut().zip(waits) {
                took.push(wait.join().unwrap());
            }
        });
    }
    println!("\n| `DisableKey`, until another node refuses | p50, ms | p99, ms | longest, ms |");
    println!("|---|---|---|---|");
    let [hinted, looking] = took.map(|mut took| {
        took.sort_by(f64::total_cmp);
        [took.len() / 2, took.len() * 99 / 100, took.len() - 1].map(|at| took[at])
    });
    for (name, [p50, p99, longest]) in [("notifications", hinted), ("looks alone", looking)] {
        println!("| {name} | {p50:.2} | {p99:.2} | {longest:.2} |");
    }
    println!();
    for (name, [.., longest]) in [("notifications", hinted), ("looks alone", looking)] {
        let row = Row::new(
            format!("DisableKey, until another node refuses, {name}"),
            "ms",
        );
        row.alone("the longest", vec![longest], Goal::AtMost(KNOWN_MS_MAX));
    }
}
