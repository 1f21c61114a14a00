use super::*;
use crate::auth::Peers;
use toml::Value;

pub(super) const FILE: &str = "/etc/keymill/keymill.toml";
const MANUAL: &str = include_str!("../../config/keymill.toml");

pub(super) fn read(text: &str) -> Result<Loaded, ConfigError> {
    read_with(text, &[])
}

pub(super) fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let environment = Environment::from_pairs(variables.iter().copied());
    Config::read(Some((Path::new(FILE), text)), &environment, &[])
}

pub(super) fn mistakes(text: &str) -> Vec<String> {
    let error = read(text).err().map(|error| error.mistakes);
    let lines = |mistake: Mistake| format!("{}: {}", mistake.place, mistake.problem);
    error.unwrap_or_default().into_iter().map(lines).collect()
}

#[test]
fn the_manual_is_the_defaults() {
    let manual = read(MANUAL).unwrap();
    let defaults = read("").unwrap();
    assert_eq!(manual.config, defaults.config);
    for (key, _) in allowed::KEYS {
        let setting = &manual.settings[key];
        assert_eq!(
            setting.source,
            Origin::File(FILE.to_owned()),
            "{key} is missing"
        );
        assert_eq!(setting.value, defaults.settings[key].value, "{key}");
    }
    assert_eq!(manual.settings.len(), allowed::KEYS.len());
}

#[test]
fn every_setting_has_a_rule_and_every_rule_a_setting() {
    let defaults = read("").unwrap().settings;
    let ruled: Vec<_> = allowed::KEYS
        .iter()
        .map(|(key, _)| (*key).to_owned())
        .collect();
    let mut named: Vec<_> = defaults.into_keys().collect();
    named.sort_by_key(|key| ruled.iter().position(|ruled| ruled == key));
    assert_eq!(named, ruled);
}

#[test]
fn the_manual_tells_range_and_unit_of_every_setting() {
    let mut section = String::new();
    let mut comment = String::new();
    let mut told = 0;
    for line in MANUAL.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
        } else if let Some((name, _)) = line.split_once(" = ") {
            let key = format!("{section}{name}");
            let words = allowed::allowed(&key).unwrap().words();
            assert!(comment.len() > 40, "{key} is not explained");
            assert!(
                words == "text" || comment.contains(&words),
                "{key}: {words}"
            );
            comment.clear();
            told += 1;
        } else {
            comment.clear();
        }
    }
    assert_eq!(told, allowed::KEYS.len());
}

#[test]
fn the_samples_of_the_manual_are_sound() {
    let is_sample = |line: &&str| {
        let line = line.trim_start_matches("# ");
        line.ends_with(']') && (line.starts_with('[') || line.contains(" = [\""))
            || line.contains(" = \"") && !line.contains(": ")
            || line.starts_with("\"arn:")
    };
    let mut sample = String::new();
    for line in MANUAL.lines().filter(is_sample) {
        sample += line.trim_start_matches("# ");
        sample.push('\n');
    }
    let sample = sample.replace("\ncertificate = \"\"", "\ncertificate = \"c.pem\"");
    let sample = sample.replace("\nkey = \"\"", "\nkey = \"k.pem\"");
    let sample = sample.replace("\nclient_ca = \"\"", "\nclient_ca = \"ca.pem\"");
    let config = read(&sample)
        .unwrap_or_else(|error| panic!("{error}\n{sample}"))
        .config;
    let (admin, provisioner) = (config.user_arn("admin"), config.user_arn("provisioner"));
    let map = config.peers.map();
    assert_eq!((&map.uids[&0], &map.uids[&1000]), (&admin, &provisioner));
    assert_eq!(map.gids[&2000], config.user_arn("consumer"));
    let [builders, pod] = ["builders", "pod-a"].map(|name| &config.sockets[name]);
    assert!(matches!(pod.peers(), Peers::Fixed(arn) if arn == provisioner));
    assert_eq!(
        (pod.mode, builders.mode),
        (SocketMode(0o666), SocketMode::DEFAULT)
    );
    assert_eq!(pod.path, Path::new("/etc/keymill/pod-a.sock"));
    assert!(matches!(builders.peers(), Peers::Mapped(map) if map.uids[&1001] == provisioner));
    let rates = &config.rates.principals;
    assert_eq!(rates[&provisioner], 50_000);
    assert_eq!((rates.len(), config.rates.kms_keys.len()), (2, 1));
    assert_eq!((config.issuers.len(), config.xks_keys.len()), (3, 1));
    assert_eq!(config.xks_proxies["vault"].host, "vault.example.com");
    let clients = &config.tls.clients;
    assert_eq!(clients["spiffe://example.org/provisioner"], provisioner);
    assert_eq!(
        clients["CN=consumer,O=Example"],
        config.user_arn("consumer")
    );
}

#[test]
fn what_is_not_allowed_is_refused_with_its_place_and_what_is() {
    let address = "allowed: an address with its port, such as 127.0.0.1:5645 or [::1]:5645";
    for (text, line) in [
        (
            "region = ''",
            "region = \"\": allowed: 1 to 32 of a-z, 0-9 and -",
        ),
        (
            "region = 'US-EAST-1'",
            "region = \"US-EAST-1\": allowed: 1 to 32 of a-z, 0-9 and -",
        ),
        ("region = 1", "region = 1: allowed: text"),
        (
            "partition = 'gcp'",
            "partition = \"gcp\": allowed: aws, aws-cn, aws-us-gov",
        ),
        (
            "account = '1111'",
            "account = \"1111\": allowed: 12 digits, in quotes",
        ),
        (
            "account = 111122223333",
            "account = 111122223333: allowed: text",
        ),
        (
            "store.path = ''",
            "store.path = \"\": allowed: a path, relative to the file's folder",
        ),
        (
            "listen.tcp = 'localhost:5645'",
            &format!("listen.tcp = \"localhost:5645\": {address}"),
        ),
        (
            "listen.tcp = '127.0.0.1'",
            &format!("listen.tcp = \"127.0.0.1\": {address}"),
        ),
        ("listen.tcp = 5645", "listen.tcp = 5645: allowed: text"),
        (
            "listen.socket_mode = '660'",
            "listen.socket_mode = \"660\": allowed: \"0600\" to \"0777\", octal, with 6 or 7 for the owner",
        ),
        (
            "listen.socket_mode = '0460'",
            "listen.socket_mode = \"0460\": allowed: \"0600\" to \"0777\", octal, with 6 or 7 for the owner",
        ),
        (
            "listen.socket_mode = '+660'",
            "listen.socket_mode = \"+660\": allowed: \"0600\" to \"0777\", octal, with 6 or 7 for the owner",
        ),
        (
            "limits.connections_max = 0",
            "limits.connections_max = 0: allowed: 1 to 1000000 connections",
        ),
        (
            "limits.connections_max = -1",
            "limits.connections_max = -1: allowed: 1 to 1000000 connections",
        ),
        (
            "limits.connections_max = '9'",
            "limits.connections_max = \"9\": allowed: 1 to 1000000 connections",
        ),
        (
            "limits.drain_seconds = 0.5",
            "limits.drain_seconds = 0.5: allowed: 0 to 3600 seconds",
        ),
        (
            "pool.enabled = 1",
            "pool.enabled = 1: allowed: true or false",
        ),
        (
            "pool.fillers = 1025",
            "pool.fillers = 1025: allowed: 0 to 1024 threads",
        ),
        (
            "pool.lane_keys_min = 300000",
            "pool.lane_keys_min = 300000: must not exceed pool.lane_keys_max = 262144",
        ),
        (
            "pool.keys_max = 128",
            "pool.lane_keys_max = 262144: must not exceed pool.keys_max = 128",
        ),
        (
            "rates.burst_ms = 99",
            "rates.burst_ms = 99: allowed: 100 to 3600000 milliseconds",
        ),
        (
            "rates.principal_keys_per_second = -1",
            "rates.principal_keys_per_second = -1: allowed: 0 to 100000000 keys a second",
        ),
        (
            "rates.keys_per_second = 1",
            "rates.keys_per_second is not a setting; those of [rates] are principal_keys_per_second, kms_key_keys_per_second, burst_ms, refused_calls_per_second, address_tokens_per_second",
        ),
        (
            "rates.principals = 1",
            "rates.principals is a section, written [rates.principals]",
        ),
        (
            "rates.principals.alice = 1",
            "rates.principals.alice = 1: allowed is an ARN like arn:aws:iam::111122223333:user/name",
        ),
        (
            "rates.principals.'arn:aws:kms:us-east-1:111122223333:key/x' = 1",
            "rates.principals.arn:aws:kms:us-east-1:111122223333:key/x = 1: allowed is an ARN like arn:aws:iam::111122223333:user/name",
        ),
        (
            "rates.principals.'arn:aws:iam::111122223333:user/a.b' = 1.5",
            "rates.principals.arn:aws:iam::111122223333:user/a.b = 1.5: allowed: 0 to 100000000 keys a second",
        ),
        (
            "rates.kms_keys.'alias/a' = 1",
            "rates.kms_keys.alias/a = 1: allowed is a key's ARN, arn:aws:kms:us-east-1:111122223333:key/<key id>",
        ),
        (
            "rates.kms_keys.'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab' = 1",
            "rates.kms_keys.arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab = 1: \
             allowed is a key's ARN, arn:aws:kms:us-east-1:111122223333:key/<key id>",
        ),
        (
            "signatures.skew_seconds = 0",
            "signatures.skew_seconds = 0: allowed: 1 to 900 seconds",
        ),
        (
            "log.format = 'xml'",
            "log.format = \"xml\": allowed: text, json",
        ),
        (
            "log.level = 'loud'",
            "log.level = \"loud\": allowed: error, warn, info, debug, trace",
        ),
        (
            "colour = 1",
            "colour is not a setting; those outside of sections are region, regions, partition, account",
        ),
        (
            "listen.udp = ''",
            "listen.udp is not a setting; those of [listen] are tcp, socket, socket_mode, admin, admin_beyond_loopback",
        ),
        (
            "[audits]",
            "audits is not a setting; those outside of sections are region, regions, partition, account; did you mean [audit]?",
        ),
        (
            "[audits]\nx = 1",
            "audits.x is not a setting: see `keymill config show`; did you mean [audit]?",
        ),
        ("listen = 3", "listen is a section, written [listen]"),
        (
            "listen.tcp.port = 1",
            "listen.tcp.port is not a setting: see `keymill config show`",
        ),
        (
            "peers.users.0 = 'x'",
            "peers.users.0 = \"x\": 0 is refused, so that root is mapped only on purpose: write root",
        ),
        (
            "peers.users.65534 = 'x'",
            "peers.users.65534 = \"x\": 65534 is refused: the kernel reports it for any id it cannot express",
        ),
        (
            "peers.groups.4294967295 = 'x'",
            "peers.groups.4294967295 = \"x\": 4294967295 is not an id",
        ),
        (
            "peers.users.alice = 'x'",
            "peers.users.alice = \"x\": allowed are a number from 1 to 4294967294, or root",
        ),
        (
            "peers.users.01000 = 'x'",
            "peers.users.01000 = \"x\": allowed are a number from 1 to 4294967294, or root",
        ),
        (
            "peers.users.1000 = 7",
            "peers.users.1000 = 7: allowed: a principal's ARN",
        ),
        (
            "peers.users.1000 = 'alice'",
            "peers.users.1000 = \"alice\": allowed is an ARN like arn:aws:iam::111122223333:user/name",
        ),
        (
            "peers.users.1000 = 'arn:aws:iam::111122223333:role/a'",
            "peers.users.1000 = \"arn:aws:iam::111122223333:role/a\": allowed is an ARN like arn:aws:iam::111122223333:user/name",
        ),
        (
            "listen.admin = '127.0.0.1:5645'",
            "listen.admin = \"127.0.0.1:5645\": must differ from listen.tcp = \"127.0.0.1:5645\"",
        ),
        (
            "store.path = 'root.key'",
            "store.root_key = \"root.key\": must differ from store.path = \"root.key\"",
        ),
        ("region = 'a'\nregion = 'b'", "line 2: duplicate key"),
        (
            "region = ",
            "line 1: string values must be quoted, expected literal string",
        ),
    ] {
        assert_eq!(mistakes(text), [format!("{FILE}: {line}")], "{text}");
    }
}

#[test]
fn every_mistake_is_reported_in_one_run() {
    let environment = Environment::from_pairs([
        ("KEYMILL_POOL__ENABLED", "yes"),
        ("KEYMILL_POOL__SIZE", "9"),
        ("KEYMILL_ACCOUNT", "12"),
    ]);
    let flag = Flag {
        name: "--listen",
        key: "listen.tcp",
        value: "localhost".to_owned(),
    };
    let text = "log.level = 'loud'\nlimits.connections_max = 0\n[pools]\nx = 1";
    let error = Config::read(Some((Path::new(FILE), text)), &environment, &[flag]);
    let error = error.err().unwrap().to_string();
    let places: Vec<_> = error
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(place, problem)| (place, problem.split([' ', ':']).next().unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            (FILE, "pools.x"),
            ("KEYMILL_POOL__SIZE", "pool.size"),
            ("KEYMILL_ACCOUNT", "account"),
            (FILE, "limits.connections_max"),
            ("--listen", "listen.tcp"),
            (FILE, "log.level"),
            ("KEYMILL_POOL__ENABLED", "pool.enabled"),
        ]
    );
}

#[test]
fn a_free_port_for_clients_takes_a_free_one_for_the_metrics() {
    let flag = |key, value: &str| Flag {
        name: "--listen",
        key,
        value: value.to_owned(),
    };
    let ports = |text: &str, flags: &[Flag]| {
        let file = Some((Path::new(FILE), text));
        let loaded = Config::read(file, &Environment::default(), flags).unwrap();
        let listen = loaded.config.listen;
        (listen.tcp.port(), listen.admin.port())
    };
    let tcp = "127.0.0.1:0";
    let free = [flag("listen.tcp", tcp)];
    assert_eq!(ports("", &[]), (5645, 5646));
    assert_eq!(ports("", &free), (0, 0));
    assert_eq!(ports("listen.tcp = '[::1]:0'", &[]), (0, 0));
    assert_eq!(ports("", &[flag("listen.tcp", "127.0.0.1:7")]), (7, 5646));
    // A port that was given stays, the default one too.
    assert_eq!(ports("listen.admin = '127.0.0.1:5646'", &free), (0, 5646));
    let both = [flag("listen.tcp", tcp), flag("listen.admin", "127.0.0.1:9")];
    assert_eq!(ports("", &both), (0, 9));
    let admin = Environment::from_pairs([("KEYMILL_LISTEN__ADMIN", "127.0.0.1:8")]);
    let loaded = Config::read(None, &admin, &free).unwrap();
    assert_eq!(loaded.config.listen.admin.port(), 8);
    let shown = Config::read(None, &Environment::default(), &free).unwrap();
    assert_eq!(shown.settings["listen.admin"].value.as_str(), Some(tcp));
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let environment = Environment::from_pairs([
        ("KEYMILL_REGION", "eu-central-1"),
        ("KEYMILL_LIMITS__DRAIN_SECONDS", "7"),
        ("KEYMILL_POOL__ENABLED", "false"),
        ("KEYMILL_LISTEN__TCP", "127.0.0.1:1"),
        (
            "KEYMILL_PEERS__USERS__ROOT",
            "arn:aws:iam::111122223333:user/a",
        ),
    ]);
    let flag = Flag {
        name: "--listen",
        key: "listen.tcp",
        value: "127.0.0.1:2".to_owned(),
    };
    let text = "region = 'us-west-2'\nlimits.drain_seconds = 5\nlog.level = 'debug'";
    let file = Some((Path::new(FILE), text));
    let Loaded { config, settings } = Config::read(file, &environment, &[flag]).unwrap();
    assert_eq!(config.region, "eu-central-1");
    assert_eq!(config.limits.drain_seconds, 7);
    assert!(!config.pool.enabled);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.listen.tcp.port(), 2);
    assert_eq!(
        config.peers.users["root"],
        "arn:aws:iam::111122223333:user/a"
    );
    let source = |key: &str| settings[key].source.to_string();
    assert_eq!(source("region"), "KEYMILL_REGION");
    assert_eq!(source("log.level"), FILE);
    assert_eq!(source("listen.tcp"), "--listen");
    assert_eq!(source("listen.admin"), "default");
    assert_eq!(settings["pool.enabled"].value, Value::Boolean(false));
}

#[test]
fn limits_are_by_arn_in_the_file_and_their_defaults_by_variable() {
    let dotted = "arn:aws:iam::444455556666:user/team/a.b@c";
    let text = format!("rates.burst_ms = 200\n[rates.principals]\n'{dotted}' = 7");
    let variables = [
        ("KEYMILL_RATES__PRINCIPAL_KEYS_PER_SECOND", "50"),
        ("KEYMILL_RATES__KMS_KEY_KEYS_PER_SECOND", "60"),
    ];
    let rates = read_with(&text, &variables).unwrap().config.rates;
    assert_eq!(rates.principals[dotted], 7);
    assert_eq!(
        (
            rates.principal_keys_per_second,
            rates.kms_key_keys_per_second,
            rates.burst_ms
        ),
        (50, 60, 200)
    );
    let variable = "KEYMILL_RATES__PRINCIPALS__ARN:AWS:IAM::111122223333:USER/A";
    assert!(read_with("", &[(variable, "x")]).is_err());
}

#[test]
fn variables_that_an_orchestrator_injects_are_not_settings() {
    let variables = [
        ("KEYMILL_PORT", "tcp://10.0.0.1:5645"),
        ("KEYMILL_SERVICE_HOST", "10.0.0.1"),
        ("KEYMILL_PORT_5645_TCP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(
        read_with("", &variables).unwrap().config,
        read("").unwrap().config
    );
    assert!(read_with("", &[("KEYMILL_LISTEN__UDP", "")]).is_err());
    let endpoint = [("KEYMILL_ENDPOINT", "unix:keymill.sock")];
    assert!(read_with("", &endpoint).is_ok());
    let refused = read_with("", &[("KEYMILL_REGON", "x")]).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "KEYMILL_REGON: is not a setting; did you mean KEYMILL_REGION?"
    );
}

#[test]
fn paths_are_relative_to_the_files_folder() {
    let config = read("store.path = '/var/keys.db'\nstore.root_key = '../root.key'")
        .unwrap()
        .config;
    assert_eq!(config.store.path, Path::new("/var/keys.db"));
    assert_eq!(config.store.root_key, Path::new("/etc/keymill/../root.key"));
    assert_eq!(config.listen.socket, Path::new("/etc/keymill/keymill.sock"));
    let config = Config::read(None, &Environment::default(), &[])
        .unwrap()
        .config;
    assert_eq!(
        config.store.path,
        std::env::current_dir().unwrap().join("keystore.db")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake() {
    let missing = Path::new("/nowhere/keymill.toml");
    let error = Config::load(Some(missing), &Environment::default(), &[])
        .err()
        .unwrap();
    let line = error.to_string();
    assert!(
        line.starts_with("/nowhere/keymill.toml: cannot be read: No such file"),
        "{line}"
    );
}
