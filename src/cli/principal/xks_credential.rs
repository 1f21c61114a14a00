//! `keymill principal new-xks-credential`: what the administrator of an AWS account is given.

use crate::cli::failure::Failure;
use crate::cli::key::print;
use crate::cli::operator::Operator;
use crate::cli::principal::PrincipalArguments;
use crate::xks_proxy::address::is_uri_path;
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(in crate::cli) struct NewXksCredential {
    #[command(flatten)]
    pub(super) name: PrincipalArguments,
    /// The path of the key store, as in `uri_path` of its table in the configuration
    #[arg(long, value_name = "PATH", value_parser = uri_path)]
    uri_path: String,
}

fn uri_path(text: &str) -> Result<String, String> {
    if is_uri_path(text) {
        return Ok(text.to_owned());
    }
    Err("a path is /PREFIX/kms/xks/v1, at most 128 of a-z, A-Z, 0-9, /, - and _".to_owned())
}

/// Prints the file that the console of AWS KMS takes (External Key Store Proxy API specification,
/// "XKS proxy configuration in AWS KMS console").
pub(super) async fn make(
    new: &NewXksCredential,
    operator: &Operator,
    json: bool,
) -> Result<(), Failure> {
    let request = json!({ "Name": new.name.name, "ServiceName": "kms-xks-proxy" });
    let answer = operator.call("CreateAccessKey", request).await?;
    let file = json!({
        "XksProxyUriPath": new.uri_path,
        "XksProxyAuthenticationCredential": {
            "AccessKeyId": answer["AccessKeyId"],
            "RawSecretAccessKey": answer["SecretAccessKey"],
        },
    });
    print(&file, &format!("{file:#}"), json)
}
