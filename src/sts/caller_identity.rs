//! `GetCallerIdentity`: needs no permission, and no policy can forbid it.

use crate::api::{Answer, Api, Reply, Requester};
use crate::sts::xml;

pub(super) fn get(api: &Api, requester: &Requester) -> Answer {
    let xml = api.read(requester, |attempt| {
        let principal = &attempt.principal;
        Ok(xml::answer(
            "GetCallerIdentity",
            requester.request_id,
            |xml| {
                xml.text("Arn", &principal.arn);
                xml.text("UserId", principal.user_id().unwrap_or_default());
                xml.text("Account", principal.account.as_str());
            },
        ))
    })?;
    Ok(Reply::new(xml).public())
}
