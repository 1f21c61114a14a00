//! Key ids, account ids, alias names and ARNs: whatever parses prints as it was given.

#![no_main]

use keymill::key::KeyId;
use keymill::key::arn::{AccountId, AliasName, Arn};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<KeyId>() {
        // Digits are taken in either case and printed in lower case.
        let (prefix, digits) = text.split_at(if id.is_multi_region() { 4 } else { 0 });
        assert_eq!(
            id.to_string(),
            format!("{prefix}{}", digits.to_ascii_lowercase())
        );
        assert_eq!(KeyId::from_parts(*id.bytes(), id.is_multi_region()), id);
    }
    if let Ok(account) = text.parse::<AccountId>() {
        assert_eq!(account.as_str(), text);
    }
    if let Ok(alias) = text.parse::<AliasName>() {
        assert_eq!(alias.as_str(), text);
        assert_eq!(alias.is_reserved(), text.starts_with("alias/aws/"));
    }
    if let Some(arn) = Arn::split(text) {
        let Arn {
            partition,
            service,
            region,
            account,
            resource,
        } = arn;
        assert_eq!(
            format!("arn:{partition}:{service}:{region}:{account}:{resource}"),
            text
        );
    }
});
