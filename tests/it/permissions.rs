//! The table of permissions in `docs/operations.md`, held to the facts of the operations.
//!
//! `WRITE=1 cargo test --test it permissions` writes it anew.

use keymill::operation::Operation;
use keymill::operation::words::{About, Facts, Keys, States};
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- permissions: written by WRITE=1 cargo test --test it permissions -->\n";
const END: &str = "<!-- /permissions -->";

fn row(operation: Operation) -> String {
    let facts = operation.facts();
    let code = |texts: &mut dyn Iterator<Item = &str>| {
        let quoted: Vec<_> = texts.map(|text| format!("`{text}`")).collect();
        quoted.join(", ")
    };
    let columns = [
        format!("`{operation}`"),
        code(&mut operation.actions().iter().map(|action| action.name())),
        resource(facts),
        yes(facts.crosses_accounts),
        yes(facts.grant_place.is_some()),
        keys(facts),
        states(facts.states).to_owned(),
        yes(facts.is_limited),
        code(&mut facts.records.iter().copied()),
    ];
    format!("| {} |", columns.join(" | "))
}

fn yes(fact: bool) -> String {
    if fact { "yes" } else { "" }.to_owned()
}

fn resource(facts: &Facts) -> String {
    match facts.about {
        About::Key if facts.takes_alias => "key, or an alias of it",
        About::Key => "key",
        About::Grant => "grant",
        About::Role => "role",
        About::Nothing => "`*`",
    }
    .to_owned()
}

fn keys(facts: &Facts) -> String {
    let kind = match facts.keys {
        Keys::All => String::new(),
        Keys::Having(usage) => format!("`{}`", usage.name()),
        Keys::Symmetric => "symmetric".to_owned(),
        Keys::Asymmetric => "asymmetric".to_owned(),
    };
    let origin = facts.origin.map(|origin| format!("`{}`", origin.name()));
    [Some(kind), origin]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

fn states(states: States) -> &'static str {
    match states {
        States::Any => "",
        States::Usable => "enabled",
        States::Enabled => "enabled, or cut off",
        States::NotPendingDeletion => "not pending deletion",
        States::WithMaterial => "enabled, disabled",
    }
}

#[test]
fn the_permissions_of_the_manual_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let mut table = "| operation | permissions | resource | other accounts | grants | keys | states | limited | recorded members |\n\
         |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for operation in Operation::ALL {
        table += &row(*operation);
        table.push('\n');
    }
    if std::env::var_os("WRITE").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            found, table,
            "WRITE=1 cargo test --test it permissions writes it"
        );
    }
}
