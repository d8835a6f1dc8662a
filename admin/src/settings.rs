//! `--print-config`: what a program's settings are, and where each comes from.
//!
//! ```text
//!  command line ──┐
//!  PACELINE_* ────┼─► Parsed: clap's matches ─► one Setting each ─► --lease-ttl  30s  PACELINE_LEASE_TTL
//!  default ───────┘    strongest first
//! ```
//!
//! Secrets are no arguments; one that comes in the environment, and the name and password in an address, are not shown.

use std::fmt;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// An environment variable, by its name.
    Environment(String),
    /// A flag or an argument.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment(name) => f.write_str(name),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// One setting of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As it is typed: `--lease-ttl`, `RECIPE`, or a variable that is no flag.
    pub name: String,
    /// What it is; `None` where it is not set.
    pub value: Option<String>,
    /// Where that comes from.
    pub origin: Origin,
}

/// A command line that was read, and what its settings are told from.
#[derive(Clone, Debug)]
pub struct Parsed<A> {
    /// What it says.
    pub arguments: A,
    command: Command,
    matches: ArgMatches,
}

impl<A: CommandFactory + FromArgMatches> Parsed<A> {
    /// That of this process, and its environment.
    ///
    /// # Errors
    /// As clap's; help and version come this way too.
    pub fn of_process() -> Result<Self, clap::Error> {
        let mut command = A::command();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let arguments = A::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        Ok(Self { arguments, command, matches })
    }

    /// All settings, then these variables that are no flags: each by its name, and whether it is a secret.
    pub fn settings(&self, variables: &[(&str, bool)]) -> Vec<Setting> {
        let mut all = settings(&self.command, &self.matches);
        all.extend(variables.iter().map(|&(name, secret)| variable(name, secret)));
        all
    }
}

/// Arguments that say what to do, not how.
const NOT_SETTINGS: [&str; 4] = ["help", "version", "print_config", "probe"];

/// All settings of the command that `matches` chose, its subcommands followed to the end, in the order of its help.
fn settings(command: &Command, matches: &ArgMatches) -> Vec<Setting> {
    if let Some((name, below)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        return settings(command, below);
    }
    let is_setting = |argument: &&Arg| !NOT_SETTINGS.contains(&argument.get_id().as_str());
    command.get_arguments().filter(is_setting).map(|argument| setting(argument, matches)).collect()
}

fn setting(argument: &Arg, matches: &ArgMatches) -> Setting {
    let id = argument.get_id().as_str();
    let typed = argument.get_long().map(|long| format!("--{long}"));
    let name = typed.unwrap_or_else(|| {
        let shown = argument.get_value_names().and_then(|names| names.first());
        shown.map_or_else(|| id.to_uppercase(), ToString::to_string)
    });
    let origin = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => Origin::CommandLine,
        Some(ValueSource::EnvVariable) => {
            Origin::Environment(argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
        }
        _ => Origin::Default,
    };
    // A flag of the command line has no text of its own.
    let value = match matches.try_get_raw(id) {
        Ok(Some(raw)) => {
            let words: Vec<_> = raw.map(|word| without_password(&word.to_string_lossy())).collect();
            Some(if words.is_empty() { "true".to_owned() } else { words.join(" ") })
        }
        Ok(None) | Err(_) => None,
    };
    Setting { name, value, origin }
}

/// A variable that is no flag; with `secret`, only whether it is set.
fn variable(name: &str, secret: bool) -> Setting {
    let found = std::env::var(name).ok().filter(|value| !value.is_empty());
    let origin = found.as_ref().map_or(Origin::Default, |_| Origin::Environment(name.to_owned()));
    let value = found.map(|value| if secret { "(not shown)".to_owned() } else { value });
    Setting { name: name.to_owned(), value, origin }
}

/// `http://name:password@host` without what stands before the `@`.
fn without_password(value: &str) -> String {
    match value.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("…@{host}"));
            format!("{scheme}://{host}{path}")
        }
        None => value.to_owned(),
    }
}

/// One line a setting: name, value, origin.
#[must_use]
pub fn table(settings: &[Setting]) -> String {
    let shown = |setting: &Setting| setting.value.clone().unwrap_or_else(|| "-".into());
    let width = |of: fn(&Setting) -> usize| settings.iter().map(of).max().unwrap_or(0);
    let names = width(|setting| setting.name.chars().count());
    let values = width(|setting| setting.value.as_ref().map_or(1, |value| value.chars().count()));
    let line = |setting: &Setting| {
        let origin = if setting.value.is_none() { "not set".to_owned() } else { setting.origin.to_string() };
        format!("{:names$}  {:values$}  {origin}\n", setting.name, shown(setting))
    };
    settings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let flag = |name: &'static str| Arg::new(name).long(name);
        let below = Command::new("train").arg(flag("steps").default_value("7")).arg(Arg::new("recipe"));
        let global = flag("coordinator").global(true).env("PACELINE_SETTINGS_TEST").default_value("http://a");
        let insecure = flag("insecure").action(clap::ArgAction::SetTrue);
        Command::new("p").args([global, insecure, flag("key")]).subcommand(below)
    }

    fn found(line: &str) -> Vec<(String, Option<String>, Origin)> {
        let mut command = program();
        let matches = command.try_get_matches_from_mut(line.split(' ')).unwrap();
        command.build();
        settings(&command, &matches).into_iter().map(|found| (found.name, found.value, found.origin)).collect()
    }

    #[test]
    fn each_value_has_its_origin() {
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            ("--coordinator".into(), text("https://…@h:1/x"), Origin::CommandLine),
            ("--insecure".into(), text("false"), Origin::Default),
            ("--key".into(), None, Origin::Default),
        ];
        assert_eq!(found("p --coordinator https://me:secret@h:1/x"), expected);
    }

    #[test]
    fn a_flag_that_was_said_is_true() {
        assert!(found("p --insecure").contains(&("--insecure".into(), Some("true".into()), Origin::CommandLine)));
    }

    #[test]
    fn subcommands_are_followed_and_global_flags_go_along() {
        let found = found("p --coordinator http://b train mine.toml");
        for expected in [("--steps", "7"), ("RECIPE", "mine.toml"), ("--coordinator", "http://b")] {
            assert!(
                found
                    .iter()
                    .any(|(name, value, _)| (name.as_str(), value.as_deref()) == (expected.0, Some(expected.1))),
                "{found:?}"
            );
        }
    }

    #[test]
    fn lines_stand_below_each_other() {
        let setting = |name: &str, value: Option<&str>, origin| Setting {
            name: name.into(),
            value: value.map(Into::into),
            origin,
        };
        let printed = table(&[
            setting("--lease-ttl", Some("30s"), Origin::Environment("PACELINE_LEASE_TTL".into())),
            setting("--key", None, Origin::Default),
        ]);
        assert_eq!(printed, "--lease-ttl  30s  PACELINE_LEASE_TTL\n--key        -    not set\n");
    }

    #[test]
    fn secrets_of_the_environment_are_only_told_to_be_there() {
        // PATH is set wherever tests run.
        assert_eq!(variable("PATH", true).value.as_deref(), Some("(not shown)"));
        assert_eq!(variable("PACELINE_NO_SUCH_VARIABLE", true).value, None);
    }
}
