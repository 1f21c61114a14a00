//! The environment, read once at the start and passed on as a value, so that tests never set
//! process variables.

use std::collections::BTreeMap;

/// Variables that decide on colours.
const COLOURS: [&str; 4] = ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR", "TERM"];

/// The variables that this program uses, but for those of the service manager's protocol
/// (`crate::service_manager`). No `Debug`: AWS credentials may be among them.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The prefix of variables that override settings.
    pub const PREFIX: &str = "KEYMILL_";

    /// The variable that names the daemon, unless a flag does. It is not a setting.
    pub const ENDPOINT: &str = "KEYMILL_ENDPOINT";

    /// The variable with which systemd names the folder of a unit's credentials (systemd.exec(5)).
    pub(super) const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

    /// The variables of this process; nothing else reads them. Bytes that are not UTF-8 become
    /// replacement characters, which no setting allows.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().map(|(name, value)| {
            let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
            (text(name), text(value))
        });
        Self::from_pairs(variables.filter(|(name, _)| {
            let is_known = name == Self::CREDENTIALS || COLOURS.contains(&&**name);
            is_known || name.starts_with(Self::PREFIX) || name.starts_with("AWS_")
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

    /// Whether output has colours, by the rules that clap follows for help: never with `NO_COLOR`,
    /// always with `CLICOLOR_FORCE`, and otherwise on a terminal that is not dumb, unless
    /// `CLICOLOR` is 0.
    #[must_use]
    pub fn is_coloured(&self, is_terminal: bool) -> bool {
        let is_on = |name: &str| self.variable(name).map(|value| value != "0");
        let is_dumb = self.variable("TERM") == Some("dumb");
        match (self.variable("NO_COLOR"), is_on("CLICOLOR_FORCE")) {
            (Some(_), _) => false,
            (None, Some(true)) => true,
            (None, _) => is_terminal && !is_dumb && is_on("CLICOLOR") != Some(false),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_a_variable_says_otherwise() {
        for (variables, at_terminal, elsewhere) in [
            (&[][..], true, false),
            (&[("NO_COLOR", "1")], false, false),
            (&[("NO_COLOR", "")], true, false),
            (&[("CLICOLOR_FORCE", "1")], true, true),
            (&[("CLICOLOR_FORCE", "0")], true, false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false, false),
            (&[("CLICOLOR", "0")], false, false),
            (&[("TERM", "dumb")], false, false),
            (&[("TERM", "xterm")], true, false),
        ] {
            let environment = Environment::from_pairs(variables.iter().copied());
            let seen = (
                environment.is_coloured(true),
                environment.is_coloured(false),
            );
            assert_eq!(seen, (at_terminal, elsewhere), "{variables:?}");
        }
    }
}
