//! Arguments about tokens.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use paceline_proto::access::{Holder, Role, TokenId};

/// `paceline token …`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for a person or a program
    Create {
        /// What it allows: user (runs and checkpoints), operator (tokens too), worker
        #[arg(long, default_value = "user", value_name = "ROLE")]
        role: Role,
        /// Whom it is for.
        #[command(flatten)]
        new: NewTokenArguments,
    },
    /// All tokens: whose, until when, whether revoked
    List,
    /// Take a token back
    Revoke {
        /// Its id, from `paceline token list`
        id: TokenId,
    },
}

/// `paceline workers …`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WorkersCommand {
    /// Make a token for a worker, or for a group of workers that are revoked together
    Enroll {
        /// Whom it is for.
        #[command(flatten)]
        new: NewTokenArguments,
    },
    /// The tokens of workers
    List,
    /// Take back all tokens of a worker
    Revoke {
        /// Its name
        name: Holder,
    },
}

/// A token to be made.
#[derive(Clone, Debug, Args)]
pub(crate) struct NewTokenArguments {
    /// Whom it is for: a name of a-z, 0-9, '-' and '_'
    pub(crate) name: Holder,
    /// How long it is good: 90d, 12h, or never
    #[arg(long, default_value = "90d", value_name = "TIME", value_parser = lifetime)]
    pub(crate) expires: Lifetime,
    /// File to write, for its owner only; printed if left out
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How long a token is good; for ever, if `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime(pub(crate) Option<Duration>);

fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime(None));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("give a whole number and a unit of s, m, h, d, for example 90d; or never".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "give a whole number before the unit, for example 90d".to_owned())?;
    match number.checked_mul(seconds).filter(|total| *total <= 36_500 * 86_400) {
        None => Err("is longer than a hundred years: say never".to_owned()),
        Some(0) => Err("must be longer than 0".to_owned()),
        Some(total) => Ok(Lifetime(Some(Duration::from_secs(total)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_units_or_no_end() {
        for (text, seconds) in [("90d", 90 * 86_400), ("12h", 43_200), ("5m", 300), ("1s", 1)] {
            assert_eq!(lifetime(text), Ok(Lifetime(Some(Duration::from_secs(seconds)))), "{text}");
        }
        assert_eq!(lifetime("never"), Ok(Lifetime(None)));
        for text in ["", "d", "90", "0d", "-1d", "1.5d", "1y", "99999999999999999999d", "36501d"] {
            assert!(lifetime(text).is_err(), "{text:?} was taken");
        }
    }
}
