//! Access keys: an id, which is public, and a secret, which is returned once.

use crate::admin::lookup::{arn_of_name, check_name, find, limit, replace};
use crate::api::validation::Violations;
use crate::api::wire::{self, Object, Text};
use crate::api::{Answer, Api, ApiError, ErrorCode, Requester};
use crate::crypto::secret::SecretBytes;
use crate::keystore::{AccessKey, Change, PrincipalEntry};
use crate::policy::principal::PrincipalKind;
use std::sync::Arc;

/// Access keys of a principal, of one kind: two, so that they can be rolled.
const ACCESS_KEYS_MAX: usize = 2;

/// The service whose name makes an access key one for an external key store.
const EXTERNAL_KEY_STORE: &str = "kms-xks-proxy";

wire::input! {
    #[serde(deny_unknown_fields)]
    struct CreateInput<'a> {
        name: Text<'a>,
        service_name: Text<'a>,
    }
}

wire::input! {
    #[serde(deny_unknown_fields)]
    struct DeleteInput<'a> {
        name: Text<'a>,
        access_key_id: Text<'a>,
    }
}

wire::input! {
    #[serde(deny_unknown_fields)]
    struct UpdateInput<'a> {
        name: Text<'a>,
        access_key_id: Text<'a>,
        status: Text<'a>,
    }
}

/// `CreateAccessKey`: for all services, or for the external key store that is given to AWS KMS. A
/// principal may have two of each kind.
pub(super) async fn create(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: CreateInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let name = check_name(input.name.as_deref(), &mut violations);
    let service = input.service_name.as_deref();
    violations.one_of("serviceName", service, EXTERNAL_KEY_STORE);
    let name = violations.check(name)?;
    let arn = arn_of_name(api, operator, name, "user")?;
    let key = match service {
        None => AccessKey::draw(AccessKey::LASTING, &api.entropy)?,
        Some(_) => AccessKey::draw_for_external_key_store(&api.entropy)?,
    };
    let mut reply = Object::new();
    write_secret(&key, &mut reply);
    let key = Arc::new(key);
    api.change(operator, None, |under| {
        let entry = find(under.snapshot, &arn)?;
        if entry.principal.kind() == PrincipalKind::Role {
            let message = format!("{arn} is a role: it has sessions in place of access keys");
            return Err(ApiError::new(ErrorCode::ValidationException, message));
        }
        let alike = entry.access_keys.iter();
        let alike = alike.filter(|one| one.is_for_external_key_store() == service.is_some());
        if alike.count() >= ACCESS_KEYS_MAX {
            let kind = service.map_or(String::new(), |service| format!(" for {service}"));
            return Err(limit(format!(
                "{arn} has {ACCESS_KEYS_MAX} access keys{kind}: delete one first"
            )));
        }
        let mut entry = PrincipalEntry::clone(entry);
        entry.access_keys.push(Arc::clone(&key));
        Ok((vec![Change::PutPrincipal(entry)], ()))
    })
    .await?;
    Ok(reply.end())
}

/// `UpdateAccessKey`: an inactive one is refused, and can be made active again.
pub(super) async fn update(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: UpdateInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let name = check_name(input.name.as_deref(), &mut violations);
    let id = check_id(input.access_key_id.as_deref(), &mut violations);
    let (status, set) = (input.status.as_deref(), "Active, Inactive");
    let status = violations.required_one_of("status", status, set);
    let (name, id, status) = violations.check((name, id, status))?;
    let arn = arn_of_name(api, operator, name, "user")?;
    let active = status == "Active";
    replace(api, operator, &arn, |mut entry| {
        let key = position(&entry, id).map(|at| &mut entry.access_keys[at])?;
        let secret = key.secret.expose();
        // Another in memory, so that nothing that was derived from the old one is found.
        *key = Arc::new(AccessKey {
            id: key.id.clone(),
            secret: SecretBytes::copy_of(secret),
            active,
        });
        Ok(entry)
    })
    .await
}

/// `DeleteAccessKey`
pub(super) async fn delete(api: &Api, operator: &Requester, body: &[u8]) -> Answer {
    let input: DeleteInput<'_> = wire::decode(body)?;
    let mut violations = Violations::default();
    let name = check_name(input.name.as_deref(), &mut violations);
    let id = check_id(input.access_key_id.as_deref(), &mut violations);
    let (name, id) = violations.check((name, id))?;
    let arn = arn_of_name(api, operator, name, "user")?;
    replace(api, operator, &arn, |mut entry| {
        let at = position(&entry, id)?;
        entry.access_keys.remove(at);
        Ok(entry)
    })
    .await
}

fn check_id<'a>(id: Option<&'a str>, violations: &mut Violations) -> &'a str {
    const ID_CHARACTERS_MAX: usize = 128;
    violations.required_text("accessKeyId", id, ID_CHARACTERS_MAX, None)
}

fn position(entry: &PrincipalEntry, id: &str) -> Result<usize, ApiError> {
    let at = entry.access_keys.iter().position(|key| key.id == id);
    at.ok_or_else(|| {
        let message = format!("{} has no access key {id}", entry.principal.arn);
        ApiError::new(ErrorCode::NotFoundException, message)
    })
}

/// Writes id and secret: the only time that the secret is returned.
pub(super) fn write_secret(key: &AccessKey, reply: &mut Object) {
    reply.plain("AccessKeyId", &key.id);
    let out = reply.member("SecretAccessKey");
    out.push(b'"');
    out.extend_from_slice(key.secret.expose());
    out.push(b'"');
}
