//! Checks of external key store proxies that may be called.

use crate::config::Config;
use crate::config::layers::Layers;
use crate::key::regions::Region;
use crate::xks_proxy;
use std::collections::BTreeMap;

pub(super) fn check(config: &Config, layers: &mut Layers) {
    let mut seen = BTreeMap::new();
    for (at, (name, proxy)) in config.xks_proxies.iter().enumerate() {
        let key = |key: &str| format!("xks_proxies.{name}.{key}");
        if at == xks_proxy::Config::HOSTS_MAX {
            let most = xks_proxy::Config::HOSTS_MAX;
            layers.refuse(&key("host"), &format!("allowed are at most {most} hosts"));
        }
        if config.partition == Region::CHINA {
            let problem = "AWS KMS has external key stores outside of the China Regions alone";
            layers.refuse(&key("host"), problem);
        }
        if let Some(other) = seen.insert(&proxy.host, name) {
            let other = format!("xks_proxies.{other}.host");
            layers.refuse_beside(&key("host"), "must differ from", &other);
        }
        let certificate = !proxy.certificate.as_os_str().is_empty();
        let private_key = !proxy.private_key.as_os_str().is_empty();
        for (setting, set, other, other_set) in [
            ("certificate", certificate, "private_key", private_key),
            ("private_key", private_key, "certificate", certificate),
        ] {
            if set && !other_set {
                layers.refuse(&key(setting), &format!("needs {}", key(other)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{FILE, mistakes, read};
    use std::path::Path;

    fn proxy(name: &str, rest: &str) -> String {
        format!("[xks_proxies.{name}]\nhost = '{name}.example'\n{rest}\n")
    }

    #[test]
    fn xks_3_proxies_are_checked_alone_and_together() {
        let a = proxy("a", "");
        let host = "allowed: a host's DNS name in lower case, without a port";
        let named = |host: &str| a.replace("a.example", host);
        for (text, line) in [
            (a.replace("host = 'a.example'", "ca_file = 'c'"), "xks_proxies.a.host: is missing".to_owned()),
            (
                proxy("a", "url = 'x'"),
                "xks_proxies.a.url is not a setting; those of [xks_proxies.a] are host, address, ca_file, certificate, private_key, timeout_ms".to_owned(),
            ),
            (named(""), format!("xks_proxies.a.host = \"\": {host}")),
            (named("A.example"), format!("xks_proxies.a.host = \"A.example\": {host}")),
            (named("a.example:443"), format!("xks_proxies.a.host = \"a.example:443\": {host}")),
            (named("https://a.example"), format!("xks_proxies.a.host = \"https://a.example\": {host}")),
            (named("10.0.0.7"), format!("xks_proxies.a.host = \"10.0.0.7\": {host}")),
            (named("*.example"), format!("xks_proxies.a.host = \"*.example\": {host}")),
            (
                proxy("a", "address = 'b.example:443'"),
                "xks_proxies.a.address = \"b.example:443\": allowed: an address with its port, such as 127.0.0.1:5645 or [::1]:5645".to_owned(),
            ),
            (
                proxy("a", "timeout_ms = 9"),
                "xks_proxies.a.timeout_ms = 9: allowed: 10 to 5000 milliseconds".to_owned(),
            ),
            (
                proxy("a", "timeout_ms = 5001"),
                "xks_proxies.a.timeout_ms = 5001: allowed: 10 to 5000 milliseconds".to_owned(),
            ),
            (
                proxy("a", "certificate = 'c'"),
                "xks_proxies.a.certificate = \"c\": needs xks_proxies.a.private_key".to_owned(),
            ),
            (
                proxy("a", "private_key = 'k'"),
                "xks_proxies.a.private_key = \"k\": needs xks_proxies.a.certificate".to_owned(),
            ),
            (
                a.clone() + &proxy("b", "").replace("b.example", "a.example"),
                "xks_proxies.b.host = \"a.example\": must differ from xks_proxies.a.host = \"a.example\"".to_owned(),
            ),
            (
                format!("region = 'cn-north-1'\n{a}"),
                "xks_proxies.a.host = \"a.example\": AWS KMS has external key stores outside of the China Regions alone".to_owned(),
            ),
        ] {
            assert_eq!(mistakes(&text), [format!("{FILE}: {line}")], "{text}");
        }
        let many = |count: usize| {
            (0..count)
                .map(|at| proxy(&format!("p{at}"), ""))
                .collect::<String>()
        };
        assert_eq!(mistakes(&many(100)), [""; 0]);
        let line = format!(
            "{FILE}: xks_proxies.p99.host = \"p99.example\": allowed are at most 100 hosts"
        );
        assert_eq!(mistakes(&many(101)), [line]);
    }

    #[test]
    fn a_proxy_has_defaults_and_paths_beside_the_file() {
        let text = proxy("a", "ca_file = 'c.pem'\naddress = '[::1]:8443'")
            + &proxy("b", "timeout_ms = 5000");
        let config = read(&text).unwrap().config;
        let [a, b] = ["a", "b"].map(|name| &config.xks_proxies[name]);
        assert_eq!((a.timeout_ms, b.timeout_ms), (250, 5000));
        assert_eq!(a.ca_file, Path::new("/etc/keymill/c.pem"));
        assert_eq!(b.ca_file, Path::new(""));
        assert_eq!((a.address.as_str(), b.address.as_str()), ("[::1]:8443", ""));
    }
}
