//! Session policies: what a session keeps of its role's rights, and what it has by its own name.
//!
//! Source: AWS IAM, "Session policies" in "Policies and permissions in IAM".

use super::*;
use crate::policy::SessionParameters;
use crate::policy::grant::{GrantId, Named};

const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/App/one";
const ROLE: &str = "arn:aws:iam::111122223333:role/apps/App";

fn statement(effect: &str, action: &str) -> String {
    format!(r#"{{"Statement":{{"Effect":"{effect}","Action":"{action}","Resource":"*"}}}}"#)
}

/// A session of a role that may do everything, with this session policy.
fn session(policy: &str) -> Principal {
    let all = statement("Allow", "kms:*");
    let role = Principal::new(ROLE, parsed(&[&all])).unwrap();
    let parameters = SessionParameters {
        policy: Some(parsed(&[policy]).remove(0)),
        ..SessionParameters::default()
    };
    let session = role.session("one", NOW).unwrap();
    session.with_parameters(&Arc::new(parameters))
}

fn to(principal: &str) -> String {
    format!(
        r#"{{"Statement":{{"Effect":"Allow","Principal":{principal},"Action":"kms:*","Resource":"*"}}}}"#
    )
}

fn decided(policy: &str, ask: &Ask) -> Result<StatementId, Denied> {
    check(&session(policy), ask, &CIRCUMSTANCES).map(|allowed| allowed.by)
}

const NARROWED: Result<StatementId, Denied> = Err(Denied::NoAllow(PolicyKind::Session));
const OF_ROLE: Result<StatementId, Denied> = Ok(StatementId::Identity {
    policy: 0,
    statement: 0,
});

#[test]
fn auth_1_a_session_may_do_what_its_role_and_its_own_policy_allow() {
    let decrypts = statement("Allow", "kms:Decrypt");
    assert_eq!(decided(&decrypts, &Ask::key("kms:Decrypt")), OF_ROLE);
    assert_eq!(decided(&decrypts, &Ask::key("kms:Encrypt")), NARROWED);
    assert_eq!(
        decided(&decrypts, &Ask::about("*", "kms:ListKeys")),
        NARROWED
    );
    // It gives nothing that the role does not have.
    let powerless = Principal::new(ROLE, Vec::new()).unwrap();
    let powerless = powerless.session("one", NOW).unwrap();
    let parameters = Arc::clone(session(&decrypts).parameters().unwrap());
    let powerless = powerless.with_parameters(&parameters);
    let found = check(&powerless, &Ask::key("kms:Decrypt"), &CIRCUMSTANCES);
    assert_eq!(found, Err(Denied::NoAllow(PolicyKind::Identity)));
}

#[test]
fn auth_1_a_deny_of_the_session_policy_wins() {
    let policy = r#"{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}]}"#;
    let by = StatementId::Session { statement: 1 };
    let denied = Err(Denied::ExplicitDeny(by));
    for key_policy in [
        to(r#""*""#),
        to(&format!(r#"{{"AWS":"{SESSION}"}}"#)),
        to(r#"{"AWS":"111122223333"}"#),
    ] {
        let ask = Ask::key("kms:Decrypt").with_key_policy(&key_policy);
        assert_eq!(decided(policy, &ask), denied, "{key_policy}");
    }
    let described = by.describe(&session(policy), None);
    assert_eq!(described, "statement 2 of the session policy");
    let action = crate::operation::Action::Decrypt;
    let reason = Denied::ExplicitDeny(by).reason(action).to_string();
    assert_eq!(reason, "with an explicit deny in a session policy");
}

#[test]
fn auth_1_key_policies_give_a_narrowed_session_only_what_they_give_by_its_own_name() {
    let narrow = statement("Allow", "kms:ListKeys");
    for (principal, expected) in [
        (
            format!(r#"{{"AWS":"{SESSION}"}}"#),
            Ok(StatementId::Key { statement: 0 }),
        ),
        (format!(r#"{{"AWS":"{ROLE}"}}"#), NARROWED),
        (
            r#"{"AWS":"arn:aws:iam::111122223333:root"}"#.to_owned(),
            NARROWED,
        ),
        (r#""*""#.to_owned(), NARROWED),
    ] {
        let ask = Ask::key("kms:Decrypt").with_key_policy(&to(&principal));
        assert_eq!(decided(&narrow, &ask), expected, "{principal}");
        // With the allow of its own policy each of them is enough.
        assert!(
            decided(&statement("Allow", "kms:Decrypt"), &ask).is_ok(),
            "{principal}"
        );
    }
}

#[test]
fn auth_1_grants_give_a_narrowed_session_only_what_they_give_by_its_own_name() {
    let (narrow, wide) = (statement("Allow", "kms:ListKeys"), statement("Allow", "*"));
    for (grantee, narrowed) in [(SESSION, false), (ROLE, true)] {
        let parameters = GrantParameters::check(draft(grantee, &["Decrypt"])).unwrap();
        let others = to(r#"{"AWS":"arn:aws:iam::111122223333:user/alice"}"#);
        let mut ask = Ask::key("kms:Decrypt").with_key_policy(&others);
        let key = ask.key.as_mut().unwrap();
        key.grants.put(Arc::new(grant(1, parameters)));
        assert_eq!(decided(&narrow, &ask) == NARROWED, narrowed, "{grantee}");
        assert!(decided(&wide, &ask).is_ok(), "{grantee}");
    }
}

#[test]
fn auth_1_a_narrowed_session_retires_only_a_grant_that_says_so_of_its_own_name() {
    let retires: &[&str] = &["Decrypt", "RetireGrant"];
    for (grantee, operations, retiring, narrowed) in [
        (ROLE, retires, None, true),
        (SESSION, retires, None, false),
        (SESSION, &["Decrypt"], None, true),
        (SESSION, &["Decrypt"], Some(ROLE), true),
        (ROLE, &["Decrypt"], Some(SESSION), false),
    ] {
        let parameters = GrantParameters::check(Draft {
            retiring_principal: retiring.map(Named::Principal),
            ..draft(grantee, operations)
        });
        let mut ask = Ask::key("kms:RetireGrant");
        ask.retires = Some(grant(1, parameters.unwrap()));
        let found = decided(&statement("Allow", "kms:ListKeys"), &ask);
        let case = format!("{grantee} {operations:?} {retiring:?}");
        let by = Ok(StatementId::Grant(GrantId([1; 32])));
        assert_eq!(found, if narrowed { NARROWED } else { by }, "{case}");
        assert!(
            decided(&statement("Allow", "kms:RetireGrant"), &ask).is_ok(),
            "{case}"
        );
    }
}
