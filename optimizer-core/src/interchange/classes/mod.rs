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

mod celo_tables;
mod convert;
mod tables;

pub(super) use self::convert::describe;
use self::convert::settings;

use std::collections::BTreeMap;

use super::flax::Form;
use crate::learned::LearnedOptimizerConfig;
use crate::{Error, Result};

/// A learned optimizer of the reference.
#[derive(Debug)]
pub(super) struct Class {
    /// What tells its settings from those of others: `kind`, and what further names a form.
    tags: &'static [(&'static str, &'static str)],
    /// Keys of theta below which Haiku's dictionaries stand; `""` is theta itself.
    haiku: &'static [&'static str],
    /// How its theta is released.
    form: Form,
    /// The class, `None` for what is no class but a chain that users write.
    constructor: Option<Constructor>,
}

/// A constructor that gin can call.
#[derive(Debug)]
struct Constructor {
    /// Name of the class in gin.
    name: &'static str,
    /// The module that has it, for the import that gin needs.
    module: &'static str,
    parameters: &'static [Parameter],
    /// Flags that make one setting together.
    joint: Option<Joint>,
}

/// Flags by name.
type Flags = BTreeMap<&'static str, bool>;

/// Flags of the reference that are one setting of ours.
#[derive(Clone, Copy, Debug)]
struct Joint {
    /// Our setting, a word.
    setting: &'static str,
    /// The word for the flags.
    word: fn(&Flags) -> &'static str,
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
    /// Our setting of the same name in the table `rule`.
    Rule,
    /// Our setting of the same name, which only a fork's class has; the reference computes with the default.
    Fork(Fork),
    /// Our setting of the same name, whose words differ: the reference's and ours.
    Word(&'static [(&'static str, &'static str)]),
    /// A flag of [`Constructor::joint`].
    Flag,
    /// Changes no result: logging, or how theta begins.
    Unused,
}

/// A copy of the reference's module in which a class has one parameter more.
#[derive(Clone, Copy, Debug)]
struct Fork {
    module: &'static str,
    /// The parameter's default there.
    default: &'static str,
}

const fn setting(name: &'static str, default: &'static str) -> Parameter {
    Parameter { name, default, role: Role::Setting }
}

const fn rule(name: &'static str, default: &'static str) -> Parameter {
    Parameter { name, default, role: Role::Rule }
}

const fn word(name: &'static str, default: &'static str, words: &'static [(&'static str, &'static str)]) -> Parameter {
    Parameter { name, default, role: Role::Word(words) }
}

const fn flag(name: &'static str, default: &'static str) -> Parameter {
    Parameter { name, default, role: Role::Flag }
}

const fn unused(name: &'static str, default: &'static str) -> Parameter {
    Parameter { name, default, role: Role::Unused }
}

impl Class {
    /// The class of this name in gin, with its constructor.
    fn named(name: &str) -> Option<(&'static Self, &'static Constructor)> {
        let constructed = tables::ALL.iter().filter_map(|class| Some((class, class.constructor.as_ref()?)));
        constructed.into_iter().find(|(_, constructor)| constructor.name == name)
    }

    /// The class that computes what these settings say.
    ///
    /// # Errors
    /// [`Error::NoCounterpart`] if the reference has none.
    pub(super) fn of(optimizer: &LearnedOptimizerConfig) -> Result<&'static Self> {
        let settings = settings(optimizer)?;
        let tagged =
            |class: &&Self| class.tags.iter().all(|(key, tag)| settings.get(*key).is_some_and(|got| got == tag));
        tables::ALL.iter().find(tagged).ok_or_else(|| Error::NoCounterpart {
            what: settings["kind"].to_string(),
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
    fn names() -> String {
        let names = tables::ALL.iter().filter_map(|class| Some(class.constructor.as_ref()?.name));
        names.collect::<Vec<_>>().join(", ")
    }
}
