//! Which paths lead where.

use super::*;

#[test]
fn paths_lead_to_the_operations_of_their_key_store() {
    let proxy = proxy(vec![external("main")]);
    let of = |path: &str| {
        proxy.target(path).map(|target| {
            target.map(|target| {
                let Target {
                    store,
                    operation,
                    external_key_id,
                } = target;
                (
                    store.name().to_owned(),
                    operation,
                    external_key_id.to_owned(),
                )
            })
        })
    };
    let found =
        |store: &str, operation, id: &str| Some(Ok((store.to_owned(), operation, id.to_owned())));
    let long = "a".repeat(128);
    for (path, expected) in [
        (
            "/orders/kms/xks/v1/health",
            found("orders", XksOperation::XksGetHealthStatus, ""),
        ),
        (
            "/kms/xks/v1/health",
            found("bare", XksOperation::XksGetHealthStatus, ""),
        ),
        (
            "/kms/xks/v1/keys/a.b-C_1/metadata",
            found("bare", XksOperation::XksGetKeyMetadata, "a.b-C_1"),
        ),
        (
            "/orders/kms/xks/v1/keys/gone/encrypt",
            found("orders", XksOperation::XksEncrypt, "gone"),
        ),
        (
            &format!("/orders/kms/xks/v1/keys/{long}/decrypt"),
            found("orders", XksOperation::XksDecrypt, &long),
        ),
        // Not of the API at all.
        ("/", None),
        ("/v1/data-keys", None),
        ("/orders/health", None),
        ("/orders/kms/xks/health", None),
    ] {
        assert_eq!(of(path), expected, "{path}");
    }
    for path in [
        "/orders/kms/xks/v1",
        "/orders/kms/xks/v1/",
        "/orders/kms/xks/v1/health/",
        "/orders/kms/xks/v2/health",
        "/orders/invalid/kms/xks/v1/health",
        "/Orders/kms/xks/v1/health",
        "//orders/kms/xks/v1/health",
        "/orders/./kms/xks/v1/health",
        "/orders/kms/xks/v1/keys",
        "/orders/kms/xks/v1/keys/main",
        "/orders/kms/xks/v1/keys/main/",
        "/orders/kms/xks/v1/keys//encrypt",
        "/orders/kms/xks/v1/keys/main/rotate",
        "/orders/kms/xks/v1/keys/main/encrypt/",
        "/orders/kms/xks/v1/keys/ma%69n/encrypt",
        "/orders/kms/xks/v1/keys/a/b/encrypt",
        &format!("/orders/kms/xks/v1/keys/{long}a/encrypt"),
        &format!("/{}/kms/xks/v1/health", "a".repeat(250)),
    ] {
        assert_eq!(of(path), Some(Err(InvalidPath)), "{path}");
    }
    // Without a key store, no path is of the API.
    assert!(Proxy::default().target("/kms/xks/v1/health").is_none());
}
