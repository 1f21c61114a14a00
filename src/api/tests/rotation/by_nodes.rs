//! What is due by the clock, on three nodes of one store in a real PostgreSQL: it is done once, by
//! whichever of them, and recorded by that one.

use super::*;
use crate::keystore::tests::shared::{Node, Server};
use tokio::task::JoinSet;

/// Two and more nodes meet in most of them.
const ROUNDS: u32 = 12;

struct Fleet {
    clock: Clock,
    nodes: Vec<Bench>,
}

impl Fleet {
    async fn of_three(server: &Server) -> Self {
        let clock = Clock::manual(NOW);
        let first = Node::new(server).await;
        let others = [first.another(), first.another()];
        let mut nodes = vec![Bench::of_node(first, &clock).await];
        for node in others {
            nodes.push(Bench::of_node(node, &clock).await);
        }
        Self { clock, nodes }
    }

    /// A key that is due for a rotation and one that is due for its deletion, known to every node.
    async fn due(&self) -> (String, String) {
        let node = &self.nodes[0];
        let (rotated, deleted) = (node.key().await, node.key().await);
        node.enable_rotation(&rotated, 90).await;
        let body = json!({"KeyId": deleted, "PendingWindowInDays": 7});
        node.done("ScheduleKeyDeletion", body).await;
        self.clock.advance(DAY * 90);
        self.refresh().await;
        (rotated, deleted)
    }

    async fn refresh(&self) {
        for node in &self.nodes {
            node.api.keystore.refresh().await.unwrap();
        }
    }

    /// How many keys these nodes have rotated and deleted, which do so at the same time.
    async fn done_by(&self, nodes: &[usize]) -> (usize, usize) {
        let now = self.clock.now();
        let mut tasks = JoinSet::new();
        for &node in nodes {
            let api = Arc::clone(&self.nodes[node].api);
            tasks.spawn(async move { done(&api, now).await });
        }
        let done = tasks.join_all().await;
        done.iter()
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// What every node says of the two keys.
    async fn check(&self, (rotated, deleted): &(String, String)) {
        self.refresh().await;
        for node in &self.nodes {
            assert_eq!(node.generations(rotated).await.len(), 2);
            let gone = node.call("DescribeKey", json!({"KeyId": deleted})).await;
            assert_eq!(gone.unwrap_err().0, Code::NotFoundException);
        }
    }

    /// How many records of this event about this key are in the logs of these nodes.
    fn recorded(logs: &[Vec<Value>], event: &str, key: &str) -> usize {
        let records = logs.iter().flatten();
        let is_it = |record: &&Value| {
            record["eventName"] == event
                && record["eventType"] == "AwsServiceEvent"
                && record["resources"][0]["ARN"] == key_arn(key)
        };
        records.filter(is_it).count()
    }
}

async fn done(api: &Api, now: Timestamp) -> (usize, usize) {
    let rotated = api.rotate_due_keys(now).await.unwrap();
    (rotated, api.remove_expired_keys(now).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_is_done_once_whichever_node_is_up() {
    let server = Server::start().await;
    nodes_that_do_it_at_once(&server).await;
    a_node_that_dies_on_it(&server).await;
    what_another_node_has_just_changed_can_be_changed(&server).await;
}

/// Each call is on a node that has not looked at the store since the call before.
async fn what_another_node_has_just_changed_can_be_changed(server: &Server) {
    let fleet = Fleet::of_three(server).await;
    let [one, two, three] = fleet.nodes.as_slice() else {
        panic!("three nodes");
    };
    let id = one.key().await;
    let unseen = two.call("DescribeKey", json!({"KeyId": id})).await;
    assert_eq!(unseen.unwrap_err().0, Code::NotFoundException);
    two.done_to("DisableKey", &id).await;
    three.done_to("EnableKey", &id).await;
    two.rotate(&id).await;
    one.done_to("ScheduleKeyDeletion", &id).await;
    three.done_to("CancelKeyDeletion", &id).await;
    let imported = one.done("CreateKey", json!({"Origin": "EXTERNAL"})).await;
    let imported = imported["KeyMetadata"]["KeyId"].as_str().unwrap();
    let body = json!({"KeyId": imported, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"});
    two.done("GetParametersForImport", body).await;
    let imported = one.done("CreateKey", json!({"Origin": "EXTERNAL"})).await;
    let imported = imported["KeyMetadata"]["KeyId"].as_str().unwrap();
    three.done_to("DeleteImportedKeyMaterial", imported).await;
}

/// Every node finds it due at the same time, or the first does not run.
async fn nodes_that_do_it_at_once(server: &Server) {
    let fleet = Fleet::of_three(server).await;
    let mut keys = Vec::new();
    for round in 0..ROUNDS {
        let due = fleet.due().await;
        let nodes: &[usize] = if round % 3 == 2 { &[1, 2] } else { &[0, 1, 2] };
        assert_eq!(fleet.done_by(nodes).await, (1, 1), "round {round}");
        assert_eq!(fleet.done_by(&[0, 1, 2]).await, (0, 0), "round {round}");
        fleet.check(&due).await;
        keys.push(due);
        // The next rotation of the earlier keys is not due in a test of this one.
        let node = &fleet.nodes[0];
        node.done_to("DisableKeyRotation", &keys[keys.len() - 1].0)
            .await;
        fleet.refresh().await;
    }
    let logs: Vec<_> = fleet.nodes.iter().map(Bench::records).collect();
    for (rotated, deleted) in keys {
        assert_eq!(Fleet::recorded(&logs, "RotateKey", &rotated), 1);
        assert_eq!(Fleet::recorded(&logs, "DeleteKey", &deleted), 1);
    }
}

/// The node that does it dies at some moment: before, while or after the database is asked.
async fn a_node_that_dies_on_it(server: &Server) {
    let fleet = Fleet::of_three(server).await;
    let (mut keys, mut by_others) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let due = fleet.due().await;
        let (api, now) = (Arc::clone(&fleet.nodes[0].api), fleet.clock.now());
        let dying = tokio::spawn(async move { done(&api, now).await });
        tokio::time::sleep(Duration::from_micros(400) * round).await;
        dying.abort();
        let _dead = dying.await;
        let (rotated, deleted) = fleet.done_by(&[1, 2]).await;
        assert!(rotated <= 1 && deleted <= 1, "round {round}");
        by_others += rotated + deleted;
        fleet.check(&due).await;
        let node = &fleet.nodes[1];
        node.done_to("DisableKeyRotation", &due.0).await;
        keys.push((due, rotated, deleted));
        fleet.refresh().await;
    }
    assert!(by_others > 0, "the first node always came to its end");
    let logs: Vec<_> = fleet.nodes.iter().map(Bench::records).collect();
    for ((rotated, deleted), rotated_by_others, deleted_by_others) in keys {
        // A node that dies between a change and its record leaves none.
        for (event, key, others) in [
            ("RotateKey", rotated, rotated_by_others),
            ("DeleteKey", deleted, deleted_by_others),
        ] {
            let records = Fleet::recorded(&logs, event, &key);
            assert!(
                records <= 1 && records >= others,
                "{event} {key}: {records}"
            );
        }
    }
}
