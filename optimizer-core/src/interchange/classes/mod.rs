//! The reference's classes and our settings, one table a class.
//!
//! ```text
//!  config.gin ─► class, its bindings ─► parameters of the constructor ─► LearnedOptimizerConfig
//!                                        (absent: the table's default)
//!  config.gin ◄─ every parameter written out ◄──────────────────────────┘
//! ```
//!
//! A table is the constructor's signature: name and default of each parameter, and what it is to us. So a default is the
//! reference's even where a recipe's would differ, and a parameter nobody thought of is refused instead of overlooked.

mod convert;
mod tables;

pub(super) use self::convert::describe;
use self::convert::settings;

use super::flax::Form;
use crate::learned::LearnedOptimizerConfig;
use crate::{Error, Result};

/// A class of the reference.
#[derive(Debug)]
pub(super) struct Class {
    /// Its name in gin.
    gin: &'static str,
    /// The module that has it, for the import that gin needs.
    module: &'static str,
    /// `kind` of our settings.
    kind: &'static str,
    /// Keys of theta below which Haiku's dictionaries stand; `""` is theta itself.
    haiku: &'static [&'static str],
    /// How its theta is released.
    form: Form,
    parameters: &'static [Parameter],
    /// Flags that make one setting together.
    joint: Option<Joint>,
}

/// Flags of the reference that are one setting of ours.
#[derive(Clone, Copy, Debug)]
struct Joint {
    /// Our setting, a word.
    setting: &'static str,
    /// The word for the flags.
    word: fn(&dyn Fn(&str) -> bool) -> &'static str,
    /// The flags for the word.
    flags: fn(&str) -> &'static [(&'static str, bool)],
}

/// One parameter of a constructor.
#[derive(Debug)]
struct Parameter {
    name: &'static str,
    /// The constructor's default, as Python writes it.
    default: &'static str,
    role: Role,
}

/// What a parameter is to us.
#[derive(Clone, Copy, Debug)]
enum Role {
    /// Our setting of the same name.
    Setting,
    /// Our setting of the same name, whose words differ: the reference's and ours.
    Word(&'static [(&'static str, &'static str)]),
    /// We compute what the default says, and nothing else.
    Fixed,
    /// A flag of [`Class::joint`].
    Flag,
    /// Changes no result: logging, or how theta begins.
    Unused,
}

const fn setting(name: &'static str, default: &'static str) -> Parameter {
    Parameter { name, default, role: Role::Setting }
}

const fn word(name: &'static str, default: &'static str, words: &'static [(&'static str, &'static str)]) -> Parameter {
    Parameter { name, default, role: Role::Word(words) }
}

const fn flag(name: &'static str, default: &'static str) -> Parameter {
    Parameter { name, default, role: Role::Flag }
}

const fn fixed(name: &'static str, default: &'static str) -> Parameter {
    Parameter { name, default, role: Role::Fixed }
}

const fn unused(name: &'static str, default: &'static str) -> Parameter {
    Parameter { name, default, role: Role::Unused }
}

impl Class {
    /// The class of this name in gin.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        tables::ALL.iter().find(|class| class.gin == name)
    }

    /// The class that computes what these settings say.
    ///
    /// # Errors
    /// [`Error::NoCounterpart`] if the reference has none.
    pub(super) fn of(optimizer: &LearnedOptimizerConfig) -> Result<&'static Self> {
        let kind = kind(optimizer)?;
        tables::ALL.iter().find(|class| class.kind == kind).ok_or_else(|| Error::NoCounterpart {
            what: kind,
            form: "a flax checkpoint",
            reason: "the JAX reference has no such class".into(),
        })
    }

    /// Keys of theta below which Haiku's dictionaries stand.
    pub(super) fn haiku(&self) -> &'static [&'static str] {
        self.haiku
    }

    /// How its theta is released.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Names of all classes, for a message.
    pub(super) fn names() -> String {
        tables::ALL.iter().map(|class| class.gin).collect::<Vec<_>>().join(", ")
    }
}

/// `kind` of some settings.
fn kind(optimizer: &LearnedOptimizerConfig) -> Result<String> {
    let settings = settings(optimizer)?;
    Ok(settings["kind"].as_str().unwrap_or_default().to_owned())
}
