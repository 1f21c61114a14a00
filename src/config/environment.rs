//! The environment, read once at the start and passed on as a value, so that tests never set
//! process variables.

use std::collections::BTreeMap;

/// The variables that this program uses. No `Debug`: AWS credentials may be among them.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The prefix of variables that override settings.
    pub const PREFIX: &str = "KEYMILL_";

    /// The variables of this process; nothing else reads them. Bytes that are not UTF-8 become
    /// replacement characters, which no setting allows.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().map(|(name, value)| {
            let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
            (text(name), text(value))
        });
        Self::from_pairs(variables.filter(|(name, _)| {
            name.starts_with(Self::PREFIX) || name.starts_with("AWS_") || name == "NO_COLOR"
        }))
    }

    /// An environment of these variables.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// The variable's value. An empty one counts as unset, as with AWS's own tools.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The variables that override settings: dotted key, variable and value. `KEYMILL_REGION` is
    /// `region`, `KEYMILL_LISTEN__TCP` is `listen.tcp`.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (String, &str, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let path = name.strip_prefix(Self::PREFIX)?;
            let key = path.to_ascii_lowercase().replace("__", ".");
            Some((key, name.as_str(), value.as_str()))
        })
    }
}
