use super::*;
use words::{About, States};

#[test]
fn operations_are_those_of_the_service_model_in_its_order() {
    assert_eq!(Operation::ALL.len(), 56);
    assert!(Operation::ALL.is_sorted_by_key(|operation| operation.name()));
    for operation in Operation::ALL {
        assert_eq!(Operation::named(operation.name()), Some(*operation));
    }
    for other in ["", "decrypt", "kms:Decrypt", "ReEncryptFrom"] {
        assert_eq!(Operation::named(other), None, "{other}");
    }
}

#[test]
fn an_action_is_called_as_its_operation_but_for_the_two_of_re_encrypt() {
    for operation in Operation::ALL {
        for action in operation.actions() {
            assert_eq!(action.operation(), Some(*operation));
            let two = *operation == Operation::ReEncrypt;
            assert!(two || action.bare_name() == operation.name(), "{operation}");
            assert_eq!(action.name(), format!("kms:{}", action.bare_name()));
            assert_eq!(Action::named(&action.name().to_uppercase()), Some(*action));
        }
    }
    let two = [Action::ReEncryptFrom, Action::ReEncryptTo];
    assert_eq!(Operation::ReEncrypt.actions(), two);
    assert_eq!(Action::named("kms:Decript"), None);
}

/// `GrantOperationList` of the service model.
#[test]
fn grants_allow_the_operations_of_the_service_model_in_its_order() {
    let names = Action::grantable().map(Action::bare_name);
    let expected = [
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "ReEncryptFrom",
        "ReEncryptTo",
        "Sign",
        "Verify",
        "GetPublicKey",
        "CreateGrant",
        "RetireGrant",
        "DescribeKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateMac",
        "VerifyMac",
        "DeriveSharedSecret",
        "Encapsulate",
        "Decapsulate",
    ];
    assert_eq!(names, expected);
    for name in expected {
        assert!(Action::of_grant(name).is_some(), "{name}");
    }
    for other in ["", "decrypt", "ListKeys", "ReEncrypt", "kms:Decrypt"] {
        assert_eq!(Action::of_grant(other), None, "{other}");
    }
}

/// AWS KMS Developer Guide, "Permissions reference", the column of cross-account use.
#[test]
fn auth_1_actions_cross_accounts_as_published() {
    let crossing = [
        "CreateGrant",
        "Decapsulate",
        "Decrypt",
        "DeriveSharedSecret",
        "DescribeKey",
        "Encapsulate",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "GetKeyRotationStatus",
        "GetPublicKey",
        "ListGrants",
        "ReEncryptFrom",
        "ReEncryptTo",
        "RetireGrant",
        "RevokeGrant",
        "Sign",
        "Verify",
        "VerifyMac",
    ];
    let all = Action::ALL
        .iter()
        .filter(|action| action.facts().crosses_accounts);
    let mut found: Vec<_> = all.map(|action| action.bare_name()).collect();
    found.sort_unstable();
    assert_eq!(found, crossing);
}

#[test]
fn facts_of_one_operation_agree_with_each_other() {
    for operation in Operation::ALL {
        let facts = operation.facts();
        let is_about_key = facts.about == About::Key;
        assert!(
            !facts.is_use || facts.is_limited && !facts.changes,
            "{operation}"
        );
        assert!(is_about_key || facts.states == States::Any, "{operation}");
        assert!(is_about_key || !facts.takes_alias, "{operation}");
        let mut records = facts.records.to_vec();
        records.sort_unstable();
        records.dedup();
        assert_eq!(
            records.len(),
            facts.records.len(),
            "{operation} records one member twice"
        );
        // One bit each: see `audit::parameters`.
        assert!(facts.records.len() + Facts::RECORDED.len() <= 64);
    }
    let uses = Operation::ALL.iter().filter(|one| one.facts().is_use);
    assert_eq!(uses.count(), 14);
}
