//! The cost of one key as work grows: with more keys, more KMS keys, more connections, and more
//! generations of a key's material. Each answer is a table and a plot, `growth_*.svg`.
//!
//! *Keys* are minted and bound under one context, 256 at a time, into buffers that are kept. *KMS
//! keys* are asked for one data key each in turn, in this process: the operation without its
//! transport, from a pool as it comes, in runs between which the audit log's writer catches up.
//! *Connections* are the closed loop of `load` over the Unix socket. *Generations* are asked of the
//! envelope: blobs of all generations in turn are opened, and keys made under the newest.
//!
//! Every point is the median of turns that go through all points again and again, except those of a
//! hundred million keys, which is measured once. `MOST` in the environment bounds the powers of
//! ten, to try the bench out.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod closed_loop;
mod machine;
mod mill;
mod minting;
mod plot;
mod rows;
mod served;

use closed_loop::closed_loop;
use keymill::clock::{Clock, Timestamp};
use keymill::crypto::block_cipher::BlockCipher;
use keymill::crypto::entropy::Entropy;
use keymill::envelope::{self, CiphertextBlob};
use keymill::key::material::BackingKey;
use keymill::key::{KeyId, KmsKey};
use keymill::keystore::KeyEntry;
use keymill::operation::Operation;
use keymill::pool;
use mill::Mill;
use minting::{LENGTH, Minting, context};
use plot::Line;
use rows::{ROUNDS, median};
use served::{CLIENT_CORE, Daemon, SERVER_CORE, Transport, pin};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Points from here on are measured once.
const ONCE: u64 = 100_000_000;

fn main() {
    if !machine::begins() {
        return;
    }
    closed_loop::check_open_files();
    let most = std::env::var("MOST").map_or(8, |most| most.parse().unwrap());
    let tens = |from: u32, to: u32| (from..=to.min(most)).map(|power| 10_u64.pow(power));
    keys(&tens(3, 8).collect::<Vec<_>>());
    generations(&[1, 2, 5, 10, 20, 50]);
    kms_keys(&tens(0, 4).collect::<Vec<_>>());
    let connections = [1, 3, 10, 30, 100, 300, 1000];
    std::thread::spawn(move || self::connections(&connections))
        .join()
        .unwrap();
}

/// What a line shows: its name, and what one costs of so many, in nanoseconds.
type Measured<'a> = (&'static str, Box<dyn FnMut(u64) -> f64 + 'a>);

/// Measures every point in turns, prints the table and writes the plot.
fn grow(name: &str, title: &str, across: &str, points: &[u64], lines: &mut [Measured<'_>]) {
    println!("\n{title}\n");
    let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    println!("| {across} | {} |", names.join(", ns | ") + ", ns");
    println!("|---|{}", "---|".repeat(lines.len()));
    let mut measured = vec![vec![Vec::new(); points.len()]; lines.len()];
    for round in 0..ROUNDS {
        for turn in 0..points.len() {
            let at = (round + turn) % points.len();
            for ((_, measure), turns) in lines.iter_mut().zip(&mut measured) {
                if points[at] < ONCE || turns[at].is_empty() {
                    turns[at].push(measure(points[at]));
                }
            }
        }
    }
    let medians: Vec<Vec<f64>> = measured
        .into_iter()
        .map(|points| points.into_iter().map(median).collect())
        .collect();
    for (at, point) in points.iter().enumerate() {
        let costs: Vec<_> = medians
            .iter()
            .map(|line| format!("{:.1}", line[at]))
            .collect();
        println!("| {point} | {} |", costs.join(" | "));
    }
    let lines: Vec<_> = names
        .into_iter()
        .zip(medians)
        .map(|(name, costs)| Line {
            name,
            points: points
                .iter()
                .map(|point| *point as f64)
                .zip(costs)
                .collect(),
        })
        .collect();
    let path = plot::path(name);
    std::fs::write(&path, plot::svg(title, across, "ns", &lines)).unwrap();
}

fn nanoseconds(took: Duration, times: u64) -> f64 {
    took.as_secs_f64() * 1e9 / times as f64
}

/// A key of so many generations.
fn entry(generations: u32) -> KeyEntry {
    let entropy = Entropy::os();
    let mut bytes = [0; 16];
    entropy.draw(&mut bytes).unwrap();
    let id = KeyId::from_random(bytes);
    let draw = |generation| {
        BackingKey::draw(BlockCipher::Aes256, id, generation, Timestamp(0), &entropy).unwrap()
    };
    KeyEntry {
        key: KmsKey::new(id, "111122223333".parse().unwrap(), Timestamp(0)),
        arn: String::new(),
        materials: (1..=generations).map(draw).map(Arc::new).collect(),
        secret: None,
        fence: 1,
    }
}

fn keys(counts: &[u64]) {
    let entry = entry(1);
    let mut minting = Minting::under(&entry);
    let mut cost = |keys: u64| {
        let clock = Clock::system();
        minting.mint_and_bind(keys);
        nanoseconds(clock.monotonic(), keys)
    };
    // Code and buffers are warm before the first point.
    cost(100_000);
    let title = "One key of a batch, as batches grow";
    grow(
        "keys",
        title,
        "keys",
        counts,
        &mut [("mint and bind", Box::new(cost))],
    );
}

fn generations(counts: &[u64]) {
    const TIMES: u64 = 20_000;
    let (entropy, context) = (Entropy::os(), context());
    let entries = counts
        .iter()
        .map(|count| (*count, entry(u32::try_from(*count).unwrap())));
    let entries: Vec<_> = entries.collect();
    let of = |count| &entries.iter().find(|(known, _)| *known == count).unwrap().1;
    let generate = |count| {
        let entry = of(count);
        let material = entry.current().unwrap();
        let mut out = Vec::new();
        let clock = Clock::system();
        for _ in 0..TIMES {
            out.clear();
            let key = envelope::mint_one(entry.key.id, material, LENGTH, &entropy);
            key.unwrap().bind(&context, &mut out);
            black_box(&out);
        }
        nanoseconds(clock.monotonic(), TIMES)
    };
    let open = |count| {
        let entry = of(count);
        let blobs = entry.materials.iter().map(|material| {
            let mut out = Vec::new();
            let key = envelope::mint_one(entry.key.id, material, LENGTH, &entropy);
            key.unwrap().bind(&context, &mut out);
            out
        });
        let blobs: Vec<_> = blobs.collect();
        let clock = Clock::system();
        for blob in blobs.iter().cycle().take(usize::try_from(TIMES).unwrap()) {
            let blob = CiphertextBlob::parse(blob).unwrap();
            let material = entry.generation(blob.header().generation).unwrap();
            black_box(envelope::open(entry.key.id, material, &context, &blob).unwrap());
        }
        nanoseconds(clock.monotonic(), TIMES)
    };
    grow(
        "generations",
        "One key made, one blob opened, as generations of material grow",
        "generations",
        counts,
        &mut [("make", Box::new(generate)), ("open", Box::new(open))],
    );
}

fn kms_keys(counts: &[u64]) {
    const REQUESTS: usize = 40_000;
    /// Many times the capacity of the audit log's journal.
    const RUN: usize = 4_000;
    const BETWEEN_RUNS: Duration = Duration::from_millis(20);
    let mill = Mill::open(pool::Config::default());
    let most = usize::try_from(*counts.last().unwrap()).unwrap();
    let bodies: Vec<Vec<u8>> = (0..most)
        .map(|_| {
            let id = mill.create_key().key.id;
            format!(r#"{{"KeyId":"{id}","KeySpec":"AES_256","EncryptionContext":{{"container":"container-000000000042"}}}}"#).into_bytes()
        })
        .collect();
    let generate = Operation::named("GenerateDataKeyWithoutPlaintext").unwrap();
    let requester = mill.provisioner();
    let ask = |bodies: &mut dyn Iterator<Item = &Vec<u8>>| {
        let clock = Clock::system();
        mill.runtime.block_on(async {
            for body in bodies {
                let reply = mill.core.api.call(generate, &requester, body).await;
                black_box(reply.ok().unwrap());
            }
        });
        let took = clock.monotonic();
        std::thread::sleep(BETWEEN_RUNS);
        took
    };
    let cost = |keys: u64| {
        let keys = usize::try_from(keys).unwrap();
        // Every key's lane begins with its first miss.
        for bodies in bodies[..keys].chunks(RUN) {
            ask(&mut bodies.iter());
        }
        std::thread::sleep(10 * BETWEEN_RUNS);
        let mut bodies = bodies[..keys].iter().cycle();
        let took: Duration = (0..REQUESTS / RUN)
            .map(|_| ask(&mut bodies.by_ref().take(RUN)))
            .sum();
        nanoseconds(took, REQUESTS as u64)
    };
    let title = "One data key, as KMS keys grow";
    grow(
        "kms_keys",
        title,
        "KMS keys",
        counts,
        &mut [("request without its transport", Box::new(cost))],
    );
    let lanes = mill.core.pool.lanes().len();
    println!(
        "\nOf {most} KMS keys {lanes} have a lane: so many of the smallest fit the pool's budget."
    );
}

fn connections(counts: &[u64]) {
    let daemon = Daemon::start(Some(SERVER_CORE));
    pin(CLIENT_CORE);
    let address = daemon.address(Transport::Unix);
    let cost = |connections: u64| {
        let request = daemon.boto3_request();
        let load = closed_loop(&address, &request, usize::try_from(connections).unwrap());
        1e9 / load.rate
    };
    let title = "One request of a closed loop, as connections grow";
    grow(
        "connections",
        title,
        "connections",
        counts,
        &mut [("request", Box::new(cost))],
    );
}
