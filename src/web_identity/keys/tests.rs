//! Keys that are rolled, issuers that are down, and strangers that make up key ids.

use super::*;
use crate::web_identity::fetch::tests::{Server, ok};
use crate::web_identity::issuer;
use crate::web_identity::tests::{NOW, Signer, at, set_of};
use std::path::PathBuf;
use std::task::{Context, Poll, Waker};
use tokio::task::JoinSet;

/// An issuer whose answer a test can change; without one it has no keys to give.
struct Bench {
    keys: Arc<Keys>,
    answer: Arc<Mutex<Option<Vec<u8>>>>,
    server: Server,
    clock: Clock,
    metrics: Metrics,
    _stop: watch::Sender<()>,
    _task: JoinSet<()>,
}

const ID: &str = "ci";

impl Bench {
    async fn new(answer: Option<Vec<u8>>) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let given = Arc::clone(&answer);
        let server = Server::new(None, move |_, _| match &*given.lock().unwrap() {
            Some(keys) => ok("", keys),
            None => b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n".to_vec(),
        })
        .await;
        let config = issuer::Config {
            url: server.url.clone(),
            audiences: vec!["keymill".to_owned()],
            account: String::new(),
            jwks_file: PathBuf::new(),
            jwks_url: format!("{}/keys", server.url),
            ca_file: PathBuf::new(),
            bearer_token_file: PathBuf::new(),
        };
        let (clock, metrics) = (Clock::manual(at(NOW)), Metrics::new().unwrap());
        let source = Source::of(&config, config.url.parse().unwrap(), clock.clone());
        let waiting = Arc::new(Semaphore::new(WAITING_MAX));
        let keys = Arc::new(Keys::new(ID, source, &waiting, clock.clone(), &metrics));
        let (stop, stopped) = watch::channel(());
        let mut task = JoinSet::new();
        task.spawn(Arc::clone(&keys).keep(stopped));
        Self {
            keys,
            answer,
            server,
            clock,
            metrics,
            _stop: stop,
            _task: task,
        }
    }

    fn give(&self, answer: Option<Vec<u8>>) {
        *self.answer.lock().unwrap() = answer;
    }

    async fn find(&self, id: &str) -> Result<(), TokenError> {
        self.keys.find(id, Algorithm::EdDSA).await.map(|_| ())
    }

    fn asked(&self) -> usize {
        self.server.asked.lock().unwrap().len()
    }
}

fn set(ids: &[&str]) -> Vec<u8> {
    let signers: Vec<_> = ids
        .iter()
        .map(|id| Signer::new(Algorithm::EdDSA, id))
        .collect();
    set_of(&signers.iter().collect::<Vec<_>>())
}

#[tokio::test]
async fn the_first_requests_wait_for_the_keys_together() {
    let bench = Bench::new(Some(set(&["a"]))).await;
    let found = tokio::join!(bench.find("a"), bench.find("a"), bench.find("b"));
    assert_eq!(found, (Ok(()), Ok(()), Err(TokenError::UnknownKey)));
    assert_eq!(bench.asked(), 1);
    let misfit = bench.keys.find("a", Algorithm::ES256).await.err();
    let expected = TokenError::Invalid("its key is for another algorithm");
    assert_eq!(misfit, Some(expected));
    assert_eq!(bench.asked(), 1, "no fetch changes what a key is for");
}

#[tokio::test]
async fn web_3_a_new_key_is_fetched_and_made_up_ones_cost_one_fetch_a_minute() {
    let bench = Bench::new(Some(set(&["a"]))).await;
    assert_eq!(bench.find("a").await, Ok(()));
    bench.give(Some(set(&["a", "b"])));
    assert_eq!(bench.find("b").await, Ok(()));
    assert_eq!(bench.asked(), 2);
    for at in 0..1000 {
        let unknown = bench.find(&format!("made-up-{at}")).await;
        assert_eq!(unknown, Err(TokenError::UnknownKey));
    }
    assert_eq!(bench.find("").await, Err(TokenError::UnknownKey));
    assert_eq!(bench.asked(), 2);
    bench.give(Some(set(&["b", "c"])));
    bench
        .clock
        .advance(ASKED_INTERVAL - Duration::from_millis(1));
    assert_eq!(bench.find("c").await, Err(TokenError::UnknownKey));
    bench.clock.advance(Duration::from_millis(1));
    let all = tokio::join!(bench.find("c"), bench.find("d"), bench.find("e"));
    // The one that asks gets the answer; others that come in the same moment may be early.
    assert_eq!(all.0, Ok(()));
    assert_eq!(bench.asked(), 3);
    assert_eq!(
        bench.find("a").await,
        Err(TokenError::UnknownKey),
        "it was withdrawn"
    );
    assert_eq!(bench.find("").await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn keys_stay_in_use_while_their_issuer_is_down() {
    let bench = Bench::new(Some(set(&["a"]))).await;
    assert_eq!(bench.find("a").await, Ok(()));
    bench.clock.advance(Duration::from_secs(60));
    bench.give(None);
    // What is not known now may be known to the issuer: clients repeat this.
    assert_eq!(bench.find("b").await, Err(TokenError::Unreachable));
    assert_eq!(bench.find("b").await, Err(TokenError::Unreachable));
    assert_eq!(bench.find("a").await, Ok(()));
    let text = bench.metrics.render();
    for line in [
        format!("keymill_issuer_fetches_total{{issuer=\"{ID}\",result=\"failed\"}} 1"),
        format!("keymill_issuer_fetches_total{{issuer=\"{ID}\",result=\"ok\"}} 1"),
        format!("keymill_issuer_keys_fetched_timestamp_seconds{{issuer=\"{ID}\"}} {NOW}"),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    // A set that is none counts as down, and the keys stay.
    bench.give(Some(b"{}".to_vec()));
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.find("b").await, Err(TokenError::Unreachable));
    assert_eq!(bench.find("a").await, Ok(()));
    bench.give(Some(set(&["b"])));
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.find("b").await, Ok(()));
    assert_eq!(bench.find("a").await, Err(TokenError::UnknownKey));
    let text = bench.metrics.render();
    let fetched = format!(
        "keymill_issuer_keys_fetched_timestamp_seconds{{issuer=\"{ID}\"}} {}",
        NOW + 180
    );
    assert!(text.contains(&fetched), "{text}");
}

#[tokio::test]
async fn an_issuer_that_is_down_from_the_start_is_tried_again() {
    let bench = Bench::new(None).await;
    assert_eq!(bench.find("a").await, Err(TokenError::Unreachable));
    bench.give(Some(set(&["a"])));
    // The second try comes two seconds after the first, and no request has to ask for it.
    let mut told = bench.keys.state.subscribe();
    let fetched = told.wait_for(|state| state.set.is_some());
    tokio::time::timeout(Duration::from_secs(10), fetched)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bench.find("a").await, Ok(()));
    assert_eq!(bench.asked(), 2);
}

#[tokio::test]
async fn web_3_no_more_strangers_wait_for_keys_than_there_is_room_for() {
    let (clock, metrics) = (Clock::manual(at(NOW)), Metrics::new().unwrap());
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    // No task fetches: the first fetch goes on and on.
    let keys = ["a", "b"].map(|name| {
        let source = Source::File(PathBuf::new());
        Keys::new(name, source, &waiting, clock.clone(), &metrics)
    });
    let mut found: Vec<_> = (0..=WAITING_MAX)
        .map(|at| Box::pin(keys[at % 2].find("x", Algorithm::EdDSA)))
        .collect();
    let mut context = Context::from_waker(Waker::noop());
    let mut polled: Vec<_> = found
        .iter_mut()
        .map(|one| one.as_mut().poll(&mut context).map(|found| found.err()))
        .collect();
    assert_eq!(
        polled.pop(),
        Some(Poll::Ready(Some(TokenError::Unreachable)))
    );
    assert!(polled.iter().all(|one| *one == Poll::Pending));
    // One that gives up makes room for another.
    found.pop();
    found.pop();
    let mut next = Box::pin(keys[0].find("x", Algorithm::EdDSA));
    assert!(next.as_mut().poll(&mut context).is_pending());
}
