//! Settings that are valid alone, but not together.

use super::SOCKET_PATH_BYTES_MAX;
use crate::config::Origin;
use crate::config::tests::{FILE, mistakes, read, read_with};
use std::path::Path;

mod shared_store;

#[test]
fn a_china_region_is_in_the_partition_of_china_and_no_other_is() {
    for (text, partition) in [
        ("region = 'cn-north-1'", Ok("aws-cn")),
        (
            "region = 'cn-northwest-1'\npartition = 'aws-cn'",
            Ok("aws-cn"),
        ),
        (
            "region = 'us-gov-west-1'\npartition = 'aws-us-gov'",
            Ok("aws-us-gov"),
        ),
        ("", Ok("aws")),
        (
            "region = 'cn-north-1'\npartition = 'aws'",
            Err("partition = \"aws\": is not the partition of region = \"cn-north-1\""),
        ),
        (
            "partition = 'aws-cn'",
            Err("partition = \"aws-cn\": is not the partition of region = \"us-east-1\""),
        ),
        (
            "region = 'cn-north-1'\n[xks.a]\nuri_path = '/a/kms/xks/v1'\nprincipal = 'arn:aws-cn:iam::111122223333:user/a'\nregions = ['cn-north-1']",
            Err(
                "xks.a.principal = \"arn:aws-cn:iam::111122223333:user/a\": AWS KMS has external key stores outside of the China Regions alone",
            ),
        ),
    ] {
        let read = read(text).map(|loaded| loaded.config.partition);
        let read = read.map_err(|error| error.mistakes[0].problem.clone());
        assert_eq!(read.as_deref().map_err(String::as_str), partition, "{text}");
    }
}

#[test]
fn addresses_that_are_not_loopback_need_tls() {
    let tls = "tls.certificate = 'c.pem'\ntls.key = 'k.pem'";
    for address in [
        "0.0.0.0:5645",
        "[::]:5645",
        "192.0.2.1:80",
        "[2001:db8::1]:5645",
        "[::ffff:127.0.0.1]:5645",
    ] {
        let plain = format!("listen.tcp = '{address}'");
        for (text, reason) in [
            (
                plain.clone(),
                "refused without TLS, because an eavesdropper",
            ),
            (
                format!("listen.admin = '{address}'"),
                "there is neither TLS nor authentication here",
            ),
            (
                format!("listen.admin = '{address}'\n{tls}"),
                "there is neither TLS nor authentication here",
            ),
        ] {
            let mistakes = mistakes(&text);
            assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
            assert!(mistakes[0].contains(reason), "{}", mistakes[0]);
        }
        assert!(read(&format!("{plain}\n{tls}")).is_ok(), "{address}");
        let admin = format!("listen.admin = '{address}'\nlisten.admin_beyond_loopback = ");
        assert!(read(&format!("{admin}true")).is_ok(), "{address}");
        assert_eq!(mistakes(&format!("{admin}false")).len(), 1, "{address}");
    }
    for address in ["127.0.0.1:0", "127.9.9.9:5645", "[::1]:5645"] {
        let plain = format!("listen.tcp = '{address}'");
        assert!(read(&plain).is_ok(), "{address}");
        assert!(read(&format!("{plain}\n{tls}")).is_ok(), "{address}");
    }
}

#[test]
fn settings_of_tls_go_together() {
    const TLS: &str = "[tls]\ncertificate = 'c.pem'\nkey = 'k.pem'\n";
    let ca = format!("{TLS}client_ca = 'ca.pem'\n");
    let mapped = "clients.'CN=a' = 'arn:aws:iam::111122223333:user/a'";
    let alone = "tls.clients.CN=a = \"arn:aws:iam::111122223333:user/a\": needs tls.client_ca";
    for (text, line) in [
        (
            "tls.key = 'k.pem'",
            "tls.key = \"k.pem\": needs tls.certificate",
        ),
        (
            "tls.certificate = 'c.pem'",
            "tls.certificate = \"c.pem\": needs tls.key",
        ),
        (
            "tls.client_ca = 'ca.pem'",
            "tls.client_ca = \"ca.pem\": needs tls.certificate",
        ),
        (
            &format!("{TLS}client_crl = 'crl.pem'"),
            "tls.client_crl = \"crl.pem\": needs tls.client_ca",
        ),
        (
            &format!("{TLS}client_certificate = 'required'"),
            "tls.client_certificate = \"required\": needs tls.client_ca",
        ),
        (
            &format!("{TLS}client_common_names = ['a']"),
            "tls.client_common_names = [\"a\"]: needs tls.client_ca",
        ),
        (
            &format!("{ca}client_common_names = ['']"),
            "tls.client_common_names = [\"\"]: allowed: at most 100 common names of 1 to 64 characters",
        ),
        (
            &format!("{TLS}client_certificate = 'maybe'"),
            "tls.client_certificate = \"maybe\": allowed: optional, required",
        ),
        (
            &format!("{TLS}reload_seconds = 0"),
            "tls.reload_seconds = 0: allowed: 1 to 86400 seconds",
        ),
        (
            &format!("{TLS}versions = '1.2'"),
            "tls.versions is not a setting; those of [tls] are certificate, key, client_ca, client_crl, client_certificate, client_common_names, reload_seconds",
        ),
        (&format!("{TLS}{mapped}"), alone),
        (
            &format!("{ca}clients.'CN=a' = 7"),
            "tls.clients.CN=a = 7: allowed: a principal's ARN",
        ),
        (
            &format!("{ca}clients.'CN=a' = 'a'"),
            "tls.clients.CN=a = \"a\": allowed is an ARN like arn:aws:iam::111122223333:user/name",
        ),
        (
            &format!("{ca}clients.'O=x, CN=a' = 'a'"),
            "tls.clients.O=x, CN=a = \"a\": allowed: a SPIFFE id (spiffe://…), or a whole subject as RFC 4514 writes it (CN=…,O=…)",
        ),
        (
            &format!("{ca}clients.'cn=a' = 'a'"),
            "tls.clients.cn=a = \"a\": write it as subjects are compared: \"CN=a\"",
        ),
        (
            &format!("{ca}clients.'spiffe://A/' = 'a'"),
            "tls.clients.spiffe://A/ = \"a\": allowed: a SPIFFE id, spiffe://trust-domain/path",
        ),
    ] {
        assert_eq!(mistakes(text), [format!("{FILE}: {line}")], "{text}");
    }
    let config = read(&format!("{ca}{mapped}")).unwrap().config;
    assert_eq!(config.tls.certificate, Path::new("/etc/keymill/c.pem"));
    assert_eq!(config.tls.client_crl, Path::new(""));
}

#[test]
fn a_further_socket_is_named_placed_and_has_one_way_to_know_its_callers() {
    let arn = "arn:aws:iam::111122223333:user/a";
    let long = "n".repeat(33);
    let named = "allowed as a name: 1 to 32 of a-z, 0-9, - and _";
    for (text, line) in [
        ("sockets.a.mode = '0666'", "sockets.a.path: is missing"),
        (
            "sockets.a.path = ''",
            "sockets.a.path = \"\": allowed: a path, relative to the file's folder",
        ),
        (
            "sockets.a = 'a.sock'",
            "sockets.a is not a setting: see `keymill config show`",
        ),
        (
            "[sockets.a]",
            "sockets.a is not a setting: see `keymill config show`",
        ),
        (
            "sockets.a.path = 'a'\nsockets.a.user = 1",
            "sockets.a.user is not a setting; those of [sockets.a] are path, mode, principal",
        ),
        (
            "sockets.a.path = 'a'\nsockets.a.mode = '7'",
            "sockets.a.mode = \"7\": allowed: \"0600\" to \"0777\", octal, with 6 or 7 for the owner",
        ),
        (
            "sockets.a.path = 'a'\nsockets.a.users.0 = 'x'",
            "sockets.a.users.0 = \"x\": 0 is refused, so that root is mapped only on purpose: write root",
        ),
        (
            "sockets.a.path = 'a'\nsockets.a.principal = 'a'",
            "sockets.a.principal = \"a\": allowed is an ARN like arn:aws:iam::111122223333:user/name",
        ),
        (
            &format!(
                "sockets.a.path = 'a'\nsockets.a.principal = '{arn}'\nsockets.a.groups.7 = '{arn}'"
            ),
            &format!(
                "sockets.a.principal = \"{arn}\": every caller is this principal: remove users and groups"
            ),
        ),
        (
            "sockets.a.path = 'keymill.sock'",
            "sockets.a.path = \"keymill.sock\": must differ from listen.socket = \"keymill.sock\"",
        ),
        (
            "sockets.a.path = 'a'\nsockets.b.path = './a'",
            "sockets.b.path = \"./a\": must differ from sockets.a.path = \"a\"",
        ),
        ("sockets.A.path = 'a'", &format!("sockets.A: {named}")),
        (
            &format!("sockets.{long}.path = 'a'"),
            &format!("sockets.{long}: {named}"),
        ),
    ] {
        assert_eq!(mistakes(text), [format!("{FILE}: {line}")], "{text}");
    }
    let variables = [
        ("KEYMILL_SOCKETS__POD_A__PATH", "/run/a"),
        ("KEYMILL_SOCKETS__POD_A__PRINCIPAL", arn),
    ];
    let loaded = read_with("", &variables).unwrap();
    assert_eq!(
        loaded.config.sockets["pod_a"].principal.as_deref(),
        Some(arn)
    );
    let mode = &loaded.settings["sockets.pod_a.mode"];
    assert_eq!(
        (mode.value.as_str(), &mode.source),
        (Some("0660"), &Origin::Default)
    );
}

#[test]
fn a_socket_path_that_the_kernel_would_cut_is_refused() {
    let fits = SOCKET_PATH_BYTES_MAX - "/etc/keymill/".len();
    assert!(read(&format!("listen.socket = '{}'", "s".repeat(fits))).is_ok());
    let mistakes = mistakes(&format!("listen.socket = '{}'", "s".repeat(fits + 1)));
    assert!(
        mistakes[0].ends_with("the whole path has 108 bytes, allowed are at most 107"),
        "{mistakes:?}"
    );
}

#[test]
fn issuers_are_checked_alone_and_together() {
    let issuer = |name: &str, rest: &str| {
        format!("[issuers.{name}]\nurl = 'https://a.example'\naudiences = ['k']\n{rest}\n")
    };
    let allowed = "allowed: https://HOST[:PORT][/PATH], at most 255 characters; http:// on a loopback address alone";
    let texts = "allowed: 1 to 100 texts of 1 to 255 characters";
    let file = "remove it, or issuers.a.jwks_file: the keys are in that file";
    let many = format!("{:?}", vec!["k"; 101]);
    for (text, line) in [
        ("issuers.a.url = 'https://a.example'".to_owned(), "issuers.a.audiences: is missing".to_owned()),
        ("issuers.a.audiences = ['k']".to_owned(), "issuers.a.url: is missing".to_owned()),
        (
            issuer("a", "issuer = 'x'"),
            "issuers.a.issuer is not a setting; those of [issuers.a] are url, audiences, account, jwks_file, jwks_url, ca_file, bearer_token_file".to_owned(),
        ),
        (
            issuer("a", "users.7 = 'x'"),
            "issuers.a.users.7 is not a setting: see `keymill config show`".to_owned(),
        ),
        (issuer("A", ""), "issuers.A: allowed as a name: 1 to 32 of a-z, 0-9, - and _".to_owned()),
        (issuer("a", "account = '12'"), "issuers.a.account = \"12\": allowed: 12 digits, in quotes".to_owned()),
        (issuer("a", "jwks_url = 'x'"), format!("issuers.a.jwks_url = \"x\": {allowed}")),
        (
            issuer("a", "jwks_url = 'http://b.example'"),
            format!("issuers.a.jwks_url = \"http://b.example\": {allowed}"),
        ),
        (
            issuer("a", "").replace("a.example'", "a.example?x'"),
            "issuers.a.url = \"https://a.example?x\": allowed: a URL without a query".to_owned(),
        ),
        (issuer("a", "").replace("['k']", "[]"), format!("issuers.a.audiences = []: {texts}")),
        (issuer("a", "").replace("['k']", "['']"), format!("issuers.a.audiences = [\"\"]: {texts}")),
        (
            issuer("a", "").replace("['k']", &many),
            format!("issuers.a.audiences = {many}: {texts}"),
        ),
        (
            issuer("a", "").replace("['k']", "'k'"),
            "issuers.a.audiences = \"k\": allowed: a list of texts".to_owned(),
        ),
        (
            issuer("a", "").replace("['k']", "['k', 1]"),
            "issuers.a.audiences = [\"k\", 1]: allowed: a list of texts".to_owned(),
        ),
        (
            issuer("a", "jwks_file = 'k'\njwks_url = 'https://b.example'"),
            format!("issuers.a.jwks_url = \"https://b.example\": {file}"),
        ),
        (issuer("a", "jwks_file = 'k'\nca_file = 'c'"), format!("issuers.a.ca_file = \"c\": {file}")),
        (
            issuer("a", "jwks_file = 'k'\nbearer_token_file = 'b'"),
            format!("issuers.a.bearer_token_file = \"b\": {file}"),
        ),
        (
            issuer("a", "") + &issuer("b", "account = '111122223333'"),
            "issuers.b.url = \"https://a.example\": must differ, for one account, from issuers.a.url = \"https://a.example\"".to_owned(),
        ),
    ] {
        assert_eq!(mistakes(&text), [format!("{FILE}: {line}")], "{text}");
    }
    let other = issuer("a", "") + &issuer("b", "account = '444455556666'\nca_file = 'c'");
    let config = read(&other).unwrap().config;
    assert_eq!(config.issuers["b"].ca_file, Path::new("/etc/keymill/c"));
    assert_eq!(config.issuers["a"].ca_file, Path::new(""));
    let issuers = |count: usize| -> String {
        let one = |at: usize| {
            issuer(&format!("i{at}"), "").replace("a.example", &format!("a{at}.example"))
        };
        (0..count).map(one).collect()
    };
    assert_eq!(mistakes(&issuers(100)), [""; 0]);
    let line = format!(
        "{FILE}: issuers.i99.url = \"https://a99.example\": allowed are at most 100 issuers"
    );
    assert_eq!(mistakes(&issuers(101)), [line]);
}

#[test]
fn an_issuer_can_be_set_by_variables() {
    let variables = [
        ("KEYMILL_ISSUERS__CI__URL", "http://localhost:8080/a"),
        (
            "KEYMILL_ISSUERS__CI__AUDIENCES",
            "keymill, sts.amazonaws.com",
        ),
    ];
    let config = read_with("", &variables).unwrap().config;
    assert_eq!(config.issuers["ci"].url, "http://localhost:8080/a");
    assert_eq!(
        config.issuers["ci"].audiences,
        ["keymill", "sts.amazonaws.com"]
    );
}

#[test]
fn external_key_stores_are_checked_alone_and_together() {
    const TLS: &str = "[tls]\ncertificate = 'c.pem'\nkey = 'k.pem'\n";
    let principal = "principal = 'arn:aws:iam::111122223333:user/aws-kms'";
    let store = |name: &str, rest: &str| {
        format!(
            "[xks.{name}]\nuri_path = '/{name}/kms/xks/v1'\n{principal}\nregions = ['eu-central-1']\n{rest}\n"
        )
    };
    let key = |name: &str, rest: &str| {
        format!("[xks_keys.{name}]\nstore = 'a'\nid = '{name}'\nkey = 'alias/a'\n{rest}\n")
    };
    let a = store("a", "");
    let regions = "allowed: 1 to 64 Regions, each of 1 to 32 of a-z, 0-9 and -";
    let paths = "allowed: /PREFIX/kms/xks/v1, at most 128 of a-z, A-Z, 0-9, /, - and _";
    let usage = "allowed: ENCRYPT, DECRYPT, each at most once";
    let entries = "allowed: at most 1000 texts of 1 to 2048 characters";
    for (text, line) in [
        (a.replace("uri_path = '/a/kms/xks/v1'\n", ""), "xks.a.uri_path: is missing".to_owned()),
        (a.replace(principal, ""), "xks.a.principal: is missing".to_owned()),
        (a.replace("regions = ['eu-central-1']", ""), "xks.a.regions: is missing".to_owned()),
        (
            store("a", "secret = 'x'"),
            "xks.a.secret is not a setting; those of [xks.a] are uri_path, principal, regions, client_common_names".to_owned(),
        ),
        (a.replace("v1'", "v2'"), format!("xks.a.uri_path = \"/a/kms/xks/v2\": {paths}")),
        (
            a.replace(":user/", ":role/"),
            "xks.a.principal = \"arn:aws:iam::111122223333:role/aws-kms\": allowed is an ARN like arn:aws:iam::111122223333:user/name".to_owned(),
        ),
        (a.replace("['eu-central-1']", "[]"), format!("xks.a.regions = []: {regions}")),
        (a.replace("['eu-central-1']", "['EU']"), format!("xks.a.regions = [\"EU\"]: {regions}")),
        (
            store("a", "client_common_names = ['n']"),
            "xks.a.client_common_names = [\"n\"]: needs tls.client_ca".to_owned(),
        ),
        (
            a.clone() + &store("b", "").replace("/b/", "/a/"),
            "xks.b.uri_path = \"/a/kms/xks/v1\": must differ from xks.a.uri_path = \"/a/kms/xks/v1\"".to_owned(),
        ),
        (a.clone() + &key("k", "").replace("id = 'k'\n", ""), "xks_keys.k.id: is missing".to_owned()),
        (
            a.clone() + &key("k", "").replace("key = 'alias/a'\n", ""),
            "xks_keys.k.key: is missing".to_owned(),
        ),
        (key("k", ""), "xks_keys.k.store = \"a\": there is not a table [xks.a]".to_owned()),
        (
            a.clone() + &key("k", "").replace("id = 'k'", "id = 'k/'"),
            "xks_keys.k.id = \"k/\": allowed: 1 to 128 of a-z, A-Z, 0-9, -, _ and .".to_owned(),
        ),
        (
            a.clone() + &key("k", "").replace("'alias/a'", "''"),
            "xks_keys.k.key = \"\": allowed: a key's id or ARN, an alias or its ARN".to_owned(),
        ),
        (a.clone() + &key("k", "usage = ['SIGN']"), format!("xks_keys.k.usage = [\"SIGN\"]: {usage}")),
        (
            a.clone() + &key("k", "usage = ['DECRYPT', 'DECRYPT']"),
            format!("xks_keys.k.usage = [\"DECRYPT\", \"DECRYPT\"]: {usage}"),
        ),
        (
            a.clone() + &key("k", "kms_operations = ['']"),
            format!("xks_keys.k.kms_operations = [\"\"]: {entries}"),
        ),
        (
            a.clone() + &key("k", "") + &key("l", "").replace("id = 'l'", "id = 'k'"),
            "xks_keys.l.id = \"k\": must differ, in one key store, from xks_keys.k.id = \"k\"".to_owned(),
        ),
    ] {
        let text = format!("{TLS}{text}");
        assert_eq!(mistakes(&text), [format!("{FILE}: {line}")], "{text}");
    }
    let needs = format!("{FILE}: xks.a.uri_path = \"/a/kms/xks/v1\": needs tls.certificate");
    assert_eq!(mistakes(&a), [needs]);
    // One id in two key stores is of two external keys.
    let two = format!("{TLS}{a}{}", store("b", ""));
    let other = key("l", "")
        .replace("id = 'l'", "id = 'k'")
        .replace("'a'", "'b'");
    let config = read(&format!("{two}{}{other}", key("k", "")))
        .unwrap()
        .config;
    assert_eq!(config.xks_keys["k"].usage, ["ENCRYPT", "DECRYPT"]);
    assert_eq!(config.xks_keys["l"].store, "b");
    let stores: String = (0..101).map(|at| store(&format!("s{at}"), "")).collect();
    let line = format!(
        "{FILE}: xks.s99.uri_path = \"/s99/kms/xks/v1\": allowed are at most 100 external key stores"
    );
    assert_eq!(mistakes(&format!("{TLS}{stores}")), [line]);
}

#[test]
fn an_external_key_store_can_be_set_by_variables() {
    let variables = [
        ("KEYMILL_TLS__CERTIFICATE", "c.pem"),
        ("KEYMILL_TLS__KEY", "k.pem"),
        ("KEYMILL_XKS__ORDERS__URI_PATH", "/kms/xks/v1"),
        (
            "KEYMILL_XKS__ORDERS__PRINCIPAL",
            "arn:aws:iam::111122223333:user/a",
        ),
        ("KEYMILL_XKS__ORDERS__REGIONS", "eu-central-1, us-east-1"),
        ("KEYMILL_XKS_KEYS__MAIN__STORE", "orders"),
        ("KEYMILL_XKS_KEYS__MAIN__ID", "main.1"),
        ("KEYMILL_XKS_KEYS__MAIN__KEY", "alias/orders"),
    ];
    let config = read_with("", &variables).unwrap().config;
    assert_eq!(config.xks["orders"].regions, ["eu-central-1", "us-east-1"]);
    assert_eq!(config.xks_keys["main"].id, "main.1");
}

#[test]
fn the_first_of_several_regions_is_the_home_region() {
    let regions = "regions = ['us-west-2', 'us-east-1']";
    let key = "1234abcd-12ab-34cd-56ef-1234567890ab";
    let limits = ["us-west-2", "us-east-1"]
        .map(|region| format!("\"arn:aws:kms:{region}:111122223333:key/{key}\" = 5\n"))
        .concat();
    let config = read(&format!("{regions}\n[rates.kms_keys]\n{limits}"))
        .unwrap()
        .config;
    assert_eq!(config.region, "us-west-2");
    assert_eq!(config.region_names(), ["us-west-2", "us-east-1"]);
    assert_eq!(config.served_regions().home().name, "us-west-2");
    let one = read("region = 'eu-west-1'").unwrap().config;
    assert_eq!(one.region_names(), ["eu-west-1"]);
}

#[test]
fn regions_are_different_ones_and_stand_alone() {
    for (text, line) in [
        (
            "regions = ['us-east-1', 'US']",
            "regions = [\"us-east-1\", \"US\"]: allowed: at most 64 different Regions, each 1 to 32 of a-z, 0-9 and -",
        ),
        (
            "regions = ['us-east-1', 'us-east-1']",
            "regions = [\"us-east-1\", \"us-east-1\"]: allowed: at most 64 different Regions, each 1 to 32 of a-z, 0-9 and -",
        ),
        (
            "region = 'us-east-1'\nregions = ['us-east-1', 'us-west-2']",
            "regions = [\"us-east-1\", \"us-west-2\"]: stands in place of, and not beside, region = \"us-east-1\"",
        ),
    ] {
        let refused = read(text).err().unwrap().to_string();
        assert!(refused.ends_with(line), "{refused}");
    }
}
