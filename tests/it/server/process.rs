//! The whole program with a configuration: several sockets, each with its principals.

use crate::server::dev::{Dev, ask};
use crate::server::wire::Request;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const HOST: &str = "localhost";

#[tokio::test]
async fn every_socket_has_its_mode_and_its_own_principals() {
    let uid = match rustix::process::geteuid().as_raw() {
        0 => "root".to_owned(),
        uid => uid.to_string(),
    };
    let arn = |name| format!("arn:aws:iam::111122223333:user/{name}");
    let (provisioner, consumer, admin) = (arn("provisioner"), arn("consumer"), arn("admin"));
    let dev = Dev::start(&format!(
        "peers.users.{uid} = '{provisioner}'\n\
         [sockets.pod]\npath = 'pod.sock'\nmode = '0666'\nprincipal = '{consumer}'\n\
         [sockets.desk]\npath = 'desk.sock'\nmode = '0600'\nusers.{uid} = '{admin}'\n\
         [sockets.strangers]\npath = 'strangers.sock'\ngroups.4242 = '{admin}'\n"
    ));
    let [own, pod, desk, strangers] =
        ["keymill.sock", "pod.sock", "desk.sock", "strangers.sock"].map(|name| dev.path(name));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let modes = [&own, &pod, &desk, &strangers].map(|path| mode(path));
    assert_eq!(modes, [0o660, 0o666, 0o600, 0o660]);

    let generate = Request::mint(HOST);
    let made = ask(&own, &generate).await.done();
    let body = json!({"CiphertextBlob": made["CiphertextBlob"]});
    let decrypt = Request::kms("Decrypt", HOST, &body);
    ask(&pod, &decrypt).await.done();
    ask(&desk, &decrypt).await.done();
    ask(&desk, &generate).await.done();
    for (socket, request) in [(&own, &decrypt), (&pod, &generate)] {
        let answer = ask(socket, request).await;
        answer.refusal(400, "AccessDeniedException");
    }
    let answer = ask(&strangers, &decrypt).await;
    answer.refusal(400, "MissingAuthenticationTokenException");

    // The operator's uid is the same on all sockets here; the admin routes are on one socket.
    let list = Request::post("/v1/admin/ListPrincipals", HOST, &json!({}));
    ask(&own, &list).await.done();
    for socket in [&pod, &desk, &strangers] {
        let answer = ask(socket, &list).await;
        answer.refusal(403, "AccessDeniedException");
    }
}
