//! `GetAccessKeyInfo`: the account of an access key of the store. AWS answers for every well-formed
//! id; here the account is not in the id.

use crate::api::validation::{Pattern, Violations};
use crate::api::{Answer, Api, ApiError, ErrorCode, Reply, Requester};
use crate::sts::form::Form;
use crate::sts::role_request::check;
use crate::sts::xml;

const ID_CHARACTERS: (usize, usize) = (16, 128);
const ID: Pattern = Pattern {
    text: r"[\w]*",
    matches: |text| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        text.bytes().all(is_word)
    },
};

pub(super) fn get(api: &Api, requester: &Requester, form: &Form) -> Answer {
    let mut violations = Violations::default();
    let id = form.text("AccessKeyId");
    match id {
        Some(id) => check(&mut violations, "accessKeyId", id, ID_CHARACTERS, &ID),
        None => violations.null("accessKeyId"),
    }
    let id = violations.check(id.unwrap_or_default())?;
    let account = api.read(requester, |attempt| {
        let entry = attempt.snapshot.access_keys.get(id);
        let unknown = || ApiError::bare(ErrorCode::UnrecognizedClientException);
        Ok(entry.ok_or_else(unknown)?.principal.account)
    })?;
    let xml = xml::answer("GetAccessKeyInfo", requester.request_id, |xml| {
        xml.text("Account", account.as_str());
    });
    Ok(Reply::new(xml).public())
}
