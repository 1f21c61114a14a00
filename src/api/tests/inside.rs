//! What a bench has inside, whichever store it is on.

use super::*;
use crate::keystore::tests::shared::Node;

/// What a bench is made of, and a store.
pub(super) struct Inside {
    pub(super) folder: tempfile::TempDir,
    pub(super) metrics: Metrics,
    pub(super) faults: FaultyEntropy,
    pub(super) entropy: Arc<Entropy>,
    pub(super) keystore: Keystore,
    pub(super) clock: Clock,
}

impl Inside {
    pub(super) fn bench(
        self,
        root: &RootKey,
        rates: &rates::Config,
        issuers: &BTreeMap<String, issuer::Config>,
        roots: Roots,
        hosts: &BTreeMap<String, xks_proxy::Config>,
    ) -> Bench {
        let Self {
            folder,
            metrics,
            faults,
            entropy,
            keystore,
            clock,
        } = self;
        let keystore = Arc::new(keystore);
        let regions = keystore.regions().clone();
        let partition = regions.home().partition.as_str();
        let clone_word = Arc::new(CloneWord::new());
        let config = pool::Config {
            enabled: false,
            ..pool::Config::default()
        };
        let parts = (Arc::clone(&entropy), clock.clone(), Arc::clone(&clone_word));
        let pool = Pool::new(config, parts.0, parts.1, parts.2, &metrics).unwrap();
        let audit = audit(&folder.path().join("audit"), root, &entropy);
        let account = ACCOUNT.parse().unwrap();
        let parts = Parts {
            keystore,
            pool,
            web_identities: WebIdentities::new(issuers, partition, account, &clock, &metrics),
            attestations: Attestations::new(roots, &metrics),
            xks_proxies: Proxies::new(hosts, &clock, &metrics).unwrap(),
            clone_word,
            entropy,
            clock,
            rates: Rates::new(rates, &regions),
            audit,
        };
        Bench {
            folder,
            api: Api::new(parts, &metrics),
            faults,
            metrics,
            admin: Principal::operator(0, ACCOUNT.parse().unwrap()),
        }
    }
}

impl Bench {
    /// One of several nodes that share a store, and a clock.
    pub(crate) async fn of_node(node: Node<'_>, clock: &Clock) -> Self {
        let metrics = Metrics::new().unwrap();
        let faults = FaultyEntropy::default();
        let failures = metrics.entropy_failures.clone();
        let entropy = Arc::new(Entropy::new(Box::new(faults.clone()), failures));
        let regions = Regions::new("aws", "us-east-1", ["us-west-2", "eu-west-1"]);
        let store_metrics = Arc::new(Metrics::new().unwrap());
        let store = node.store();
        store.begin(&node.root, &entropy).await.unwrap();
        let keystore = store.open(&node.root, regions, Arc::clone(&entropy), store_metrics);
        let keystore = keystore.await.unwrap();
        let Node { folder, root, .. } = node;
        let inside = Inside {
            folder,
            metrics,
            faults,
            entropy,
            keystore,
            clock: clock.clone(),
        };
        let rates = rates::Config::default();
        let (issuers, hosts) = (BTreeMap::new(), BTreeMap::new());
        inside.bench(&root, &rates, &issuers, Roots::default(), &hosts)
    }
}
