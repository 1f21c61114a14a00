//! Merges defaults, file, environment and flags, key by key.

use crate::config::environment::Environment;
use crate::config::{Config, Mistake, SocketMode, allowed, suggestion};
use crate::key::regions::{Region, Regions};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use toml::{Table, Value};

/// One setting as it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Where the setting came from.
    pub source: Origin,
}

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// This file.
    File(String),
    /// This variable.
    Environment(String),
    /// This flag.
    Flag(&'static str),
}

impl Origin {
    /// `default`, `file`, `environment` or `flag`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File(_) => "file",
            Self::Environment(_) => "environment",
            Self::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File(place) | Self::Environment(place) => out.write_str(place),
            Self::Flag(flag) => out.write_str(flag),
        }
    }
}

/// A setting that the command line overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// `--listen`
    pub name: &'static str,
    /// `listen.tcp`
    pub key: &'static str,
    /// The value as it was typed.
    pub value: String,
}

/// The settings so far, and the mistakes in them.
pub(super) struct Layers {
    pub(super) settings: BTreeMap<String, Setting>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Layers {
    pub(super) fn of_defaults() -> Self {
        let mut layers = Self {
            settings: BTreeMap::new(),
            mistakes: Vec::new(),
        };
        let defaults = Table::try_from(Config::default()).unwrap_or_default();
        for (key, value) in leaves(defaults) {
            // An empty map of principals is not a setting.
            if !value.is_table() {
                let source = Origin::Default;
                layers.settings.insert(key, Setting { value, source });
            }
        }
        layers
    }

    pub(super) fn add_file(&mut self, path: &Path, text: &str) {
        let place = path.display().to_string();
        match text.parse::<Table>() {
            Ok(table) => {
                for (key, value) in leaves(table) {
                    self.put(&key, value, Origin::File(place.clone()));
                }
            }
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.map_or(1, |before| 1 + before.matches('\n').count());
                let problem = format!("line {line}: {}", error.message().replace('\n', ", "));
                self.mistakes.push(Mistake { place, problem });
            }
        }
    }

    pub(super) fn add_environment(&mut self, environment: &Environment) {
        for (key, name, text) in environment.overrides() {
            // For a service named keymill, orchestrators inject KEYMILL_PORT and similar variables.
            // A variable without a section that is not a key, nor nearly one, is therefore
            // ignored.
            if key.contains('.') || allowed::allowed(&key).is_some() {
                self.put_text(&key, text, Origin::Environment(name.to_owned()));
            } else if name != Environment::ENDPOINT
                && let Some(meant) = suggestion::variable(&key)
            {
                let problem = format!("is not a setting; did you mean {meant}?");
                let place = name.to_owned();
                self.mistakes.push(Mistake { place, problem });
            }
        }
    }

    pub(super) fn add_flags(&mut self, flags: &[Flag]) {
        for flag in flags {
            self.put_text(flag.key, &flag.value, Origin::Flag(flag.name));
        }
    }

    /// With a free port for AWS clients, the metrics take a free one too, unless they were given
    /// one: a user who asks for free ports runs several daemons beside each other.
    pub(super) fn free_the_admin_port(&mut self) {
        let port =
            |setting: &Setting| Some(setting.value.as_str()?.parse::<SocketAddr>().ok()?.port());
        if self.settings.get("listen.tcp").and_then(port) != Some(0) {
            return;
        }
        if let Some(admin) = self.settings.get_mut("listen.admin")
            && admin.source == Origin::Default
            && let Some(Ok(mut address)) = admin.value.as_str().map(str::parse::<SocketAddr>)
        {
            address.set_port(0);
            admin.value = Value::String(address.to_string());
        }
    }

    /// A China Region is in the partition of China by default.
    pub(super) fn derive_the_partition(&mut self) {
        let home = self.settings.get("regions").and_then(|of| of.value.get(0));
        let region = self.settings.get("region").map(|of| &of.value);
        let home = home.or(region).and_then(Value::as_str);
        if home.is_some_and(|name| Regions::partition_of(name) == Region::CHINA)
            && let Some(partition) = self.settings.get_mut("partition")
            && partition.source == Origin::Default
        {
            partition.value = Value::String(Region::CHINA.to_owned());
        }
    }

    fn put_text(&mut self, key: &str, text: &str, source: Origin) {
        let value = match allowed::allowed(key) {
            Some(allowed) => allowed.value(text),
            None => Value::String(text.to_owned()),
        };
        self.put(key, value, source);
    }

    fn put(&mut self, key: &str, value: Value, source: Origin) {
        let is_section = value.is_table() && self.is_section(key);
        if allowed::allowed(key).is_some() || allowed::entry(key).is_some() {
            self.settings
                .insert(key.to_owned(), Setting { value, source });
        } else if !is_section {
            let mut problem = self.unknown(key);
            if !self.is_section(key)
                && let Some(meant) = suggestion::setting(key)
            {
                problem += &format!("; did you mean {meant}?");
            }
            let place = source.to_string();
            self.mistakes.push(Mistake { place, problem });
        }
    }

    fn is_section(&self, key: &str) -> bool {
        let prefix = format!("{key}.");
        let mut names = allowed::KEYS
            .iter()
            .map(|(name, _)| *name)
            .chain(allowed::MAPS);
        allowed::NAMED.iter().any(|(section, _)| key == *section)
            || allowed::MAPS.contains(&key)
            || names.any(|name| name.starts_with(&prefix))
            || allowed::is_socket_map(key)
    }

    fn unknown(&self, key: &str) -> String {
        if self.is_section(key) {
            return format!("{key} is a section, written [{key}]");
        }
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let fixed = allowed::KEYS.iter().filter_map(|(name, _)| {
            let (other, key) = name.rsplit_once('.').unwrap_or(("", name));
            (other == section).then_some(key)
        });
        let mut siblings: Vec<&str> = fixed.collect();
        if let Some(of) = allowed::named(key).filter(|of| !of.rest.contains('.')) {
            siblings = of.keys.iter().map(|(key, _)| *key).collect();
        }
        match (section, siblings.is_empty()) {
            (_, true) => format!("{key} is not a setting: see `keymill config show`"),
            ("", _) => format!(
                "{key} is not a setting; those outside of sections are {}",
                siblings.join(", ")
            ),
            _ => format!(
                "{key} is not a setting; those of [{section}] are {}",
                siblings.join(", ")
            ),
        }
    }

    /// Checks each setting alone.
    pub(super) fn check(&mut self) {
        self.complete_tables();
        let mut problems = Vec::new();
        for (key, Setting { value, .. }) in &self.settings {
            let checked = match (allowed::allowed(key), allowed::entry(key)) {
                (Some(allowed), _) => allowed.check(value),
                (None, Some((map, name))) => allowed::check_entry(map, name, value),
                (None, None) => Ok(()),
            };
            if let Err(problem) = checked {
                problems.push((key.clone(), problem));
            }
        }
        for (key, problem) in problems {
            self.refuse(&key, &problem);
        }
    }

    /// Gives every further socket its default mode, and reports tables without what they must have.
    fn complete_tables(&mut self) {
        let of = |(key, setting): (&String, &Setting)| {
            let of = allowed::named(key)?;
            Some(((of.section, of.name.to_owned()), setting.source.to_string()))
        };
        let tables: BTreeMap<_, _> = self.settings.iter().filter_map(of).collect();
        for ((section, name), place) in tables {
            let key = |key: &str| format!("{section}.{name}.{key}");
            let missing = allowed::needed(section)
                .iter()
                .map(|needed| key(needed))
                .find(|key| !self.settings.contains_key(key));
            let problem = if !allowed::is_name(&name) {
                let named = "allowed as a name: 1 to 32 of a-z, 0-9, - and _";
                Some(format!("{section}.{name}: {named}"))
            } else {
                missing.map(|key| format!("{key}: is missing"))
            };
            if let Some(problem) = problem {
                self.mistakes.push(Mistake { place, problem });
            }
            if section == "sockets" {
                self.settings.entry(key("mode")).or_insert_with(|| Setting {
                    value: Value::String(SocketMode::DEFAULT.to_string()),
                    source: Origin::Default,
                });
            }
        }
    }

    /// Reports that the setting `key` is refused with its present value.
    pub(super) fn refuse(&mut self, key: &str, problem: &str) {
        let (place, value) = match self.settings.get(key) {
            // A URL is refused for a password in it, among other things.
            Some(setting) if key.starts_with("store.") && key.ends_with("url") => {
                (setting.source.to_string(), String::new())
            }
            Some(setting) => (setting.source.to_string(), format!(" = {}", setting.value)),
            None => (Origin::Default.to_string(), String::new()),
        };
        let problem = format!("{key}{value}: {problem}");
        self.mistakes.push(Mistake { place, problem });
    }

    /// Reports that `key` contradicts `other`, at the place of the one that is not a default.
    pub(super) fn refuse_beside(&mut self, key: &str, relation: &str, other: &str) {
        let set = [key, other]
            .into_iter()
            .filter_map(|key| self.settings.get(key));
        let mut sources = set.map(|setting| &setting.source);
        let source = sources.find(|source| **source != Origin::Default);
        let place = source.unwrap_or(&Origin::Default).to_string();
        let shown = |key: &str| match self.settings.get(key) {
            Some(setting) => format!("{key} = {}", setting.value),
            None => key.to_owned(),
        };
        let problem = format!("{}: {relation} {}", shown(key), shown(other));
        self.mistakes.push(Mistake { place, problem });
    }

    /// The settings as their types; `None` while there are mistakes.
    pub(super) fn config(&mut self) -> Option<Config> {
        if !self.mistakes.is_empty() {
            return None;
        }
        let mut root = Table::new();
        let tables = allowed::NAMED.iter().map(|(section, _)| *section);
        for section in allowed::MAPS.into_iter().chain(tables) {
            table_at(&mut root, section.split('.'));
        }
        for (key, setting) in &self.settings {
            let split = allowed::entry(key).or_else(|| key.rsplit_once('.'));
            let (section, name) = split.unwrap_or(("", key));
            let path = section.split('.').filter(|part| !part.is_empty());
            if let Some(table) = table_at(&mut root, path) {
                table.insert(name.to_owned(), setting.value.clone());
            }
        }
        match root.try_into() {
            Ok(config) => Some(config),
            // Every value was checked, so this is a rule of a type that `keys` does not know.
            Err(error) => {
                let place = "settings".to_owned();
                let problem = error.message().to_owned();
                self.mistakes.push(Mistake { place, problem });
                None
            }
        }
    }
}

fn table_at<'a, 'b>(
    root: &'a mut Table,
    mut path: impl Iterator<Item = &'b str>,
) -> Option<&'a mut Table> {
    path.try_fold(root, |table, part| {
        let entry = table.entry(part);
        entry
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
    })
}

/// Dotted keys and values. An empty table is a leaf, so that an unknown section is noticed even
/// when it is empty.
fn leaves(table: Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                let inner = leaves(inner);
                found.extend(
                    inner
                        .into_iter()
                        .map(|(rest, value)| (format!("{key}.{rest}"), value)),
                );
            }
            value => found.push((key, value)),
        }
    }
    found
}
