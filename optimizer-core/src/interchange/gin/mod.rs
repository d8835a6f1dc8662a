//! The part of gin that describes a learned optimizer.
//!
//! ```text
//!  # a comment                                    dropped, like `import …` and `from … import …`
//!  HIDDEN = 512                                   a macro, used as %HIDDEN
//!  HyperV2.lstm_hidden_size = %HIDDEN             [scope/]Class.parameter = value
//!  run_train.lopt = @HyperV2()                    [scope/]Name, to be called or not
//! ```
//!
//! Values are Python literals (numbers, `True`, `False`, `None`, strings, tuples, lists, dictionaries), references and
//! macros. A backslash before a line's end, or an open bracket, continues a line. Nothing is run or imported, `include` is
//! refused, and size, depth and number of values are bounded. Source: the grammar of github.com/google/gin-config, as
//! far as files written by `gin.operative_config_str` use it.

mod cursor;
mod value;

use std::collections::BTreeMap;

use self::cursor::Cursor;
pub(super) use self::value::Value;
use self::value::Values;
use super::quote::quoted;
use crate::{Error, Result};

/// Longest text that is read, in bytes. VeLO's has 20 thousand.
const LONGEST: usize = 1 << 20;

/// A macro that refers to a macro, and so on: deepest chain.
const DEEPEST_MACRO: usize = 16;

/// Longest key that is told whole, in letters.
const LONGEST_KEY: usize = 200;

/// One binding.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Binding<'a> {
    /// Line of its key, from 1.
    pub(super) line: usize,
    /// The key as written.
    pub(super) key: &'a str,
    scope: &'a str,
    class: &'a str,
    parameter: &'a str,
    value: Value<'a>,
}

/// A whole file.
#[derive(Clone, Debug, Default)]
pub(super) struct Config<'a> {
    /// Modules, with what is taken from them.
    imports: Vec<String>,
    bindings: Vec<Binding<'a>>,
    macros: BTreeMap<&'a str, Value<'a>>,
}

impl<'a> Config<'a> {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Foreign`] with the line, if it is too long or holds anything beyond the part of gin above.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(Error::foreign("gin", format!("at most {LONGEST} bytes"), format!("{} bytes", text.len())));
        }
        let mut cursor = Cursor::new(text);
        let mut values = Values::default();
        let mut config = Self::default();
        while cursor.next_statement() {
            let line = cursor.line();
            let key = cursor.word();
            if matches!(key, "import" | "from") {
                let words: Vec<&str> = cursor.rest_of_line().split_whitespace().collect();
                match words[..] {
                    [module, "import", name, ..] => config.imports.push(format!("{module}.{name}")),
                    [module, ..] => config.imports.push(module.to_owned()),
                    [] => {}
                }
                continue;
            }
            let named = !key.is_empty() && !key.starts_with(['.', '/']) && !key.ends_with(['.', '/']);
            if !named || key == "include" || !cursor.eat('=') {
                let expected = "a binding `[scope/]Class.parameter = value`, a macro or an import";
                let found = format!("{key} {}", cursor.rest_of_line());
                return Err(wrong(line, expected, &quoted(found.trim())));
            }
            let value = values.read(&mut cursor)?;
            if !cursor.at_end_of_statement() {
                return Err(cursor.wrong("the end of the line"));
            }
            let (scope, selector) = key.rsplit_once('/').unwrap_or(("", key));
            match selector.rsplit_once('.') {
                // Scoped macros are `scope/NAME`; no file of the reference has one, and a lookup ignores the scope.
                None => {
                    config.macros.insert(selector, value);
                }
                Some((class, parameter)) => {
                    let class = last_component(class);
                    config.bindings.push(Binding { line, key, scope, class, parameter, value });
                }
            }
        }
        Ok(config)
    }

    /// The optimizer that `run_train.lopt` names: its scope and class. `None` if it names none.
    ///
    /// # Errors
    /// [`Error::Foreign`] if it is bound to something else than a reference.
    pub(super) fn optimizer(&self) -> Result<Option<(String, &'a str)>> {
        let named = |binding: &&Binding<'_>| binding.class == "run_train" && binding.parameter == "lopt";
        let Some(binding) = self.bindings.iter().rfind(named) else { return Ok(None) };
        match self.resolve(&binding.value, binding.line)? {
            Value::Reference { scope, name } => Ok(Some((scope.to_owned(), last_component(name)))),
            other => Err(binding.wrong("a reference such as @HyperV2()", &other.words())),
        }
    }

    /// Whether it imports this module.
    pub(super) fn imports(&self, module: &str) -> bool {
        self.imports.iter().any(|import| import == module)
    }

    /// The bindings of a class, those of the innermost scope last, and all other bindings.
    pub(super) fn of_class(&self, scope: &str, class: &str) -> (Vec<&Binding<'a>>, Vec<&Binding<'a>>) {
        let applies = |binding: &&Binding<'_>| {
            let inner = scope.strip_prefix(binding.scope);
            let enclosing = |inner: &str| inner.is_empty() || inner.starts_with('/') || binding.scope.is_empty();
            binding.class == class && inner.is_some_and(enclosing)
        };
        let (mut ours, others): (Vec<_>, Vec<_>) = self.bindings.iter().partition(applies);
        ours.sort_by_key(|binding| binding.scope.len());
        (ours, others)
    }

    /// A binding's value with macros replaced.
    ///
    /// # Errors
    /// [`Error::Foreign`] for a macro that is not defined, or defined by itself.
    pub(super) fn value(&self, binding: &Binding<'a>) -> Result<Value<'a>> {
        self.resolve(&binding.value, binding.line)
    }

    fn resolve(&self, value: &Value<'a>, line: usize) -> Result<Value<'a>> {
        let mut value = value;
        for _ in 0..DEEPEST_MACRO {
            let Value::Macro(name) = value else { return Ok(value.clone()) };
            let defined = self.macros.get(last_component(name));
            value = defined.ok_or_else(|| wrong(line, "a macro that is defined", &format!("%{name}")))?;
        }
        Err(wrong(line, "a macro that ends", "macros that refer to each other"))
    }
}

impl<'a> Binding<'a> {
    /// The parameter it sets.
    pub(super) fn parameter(&self) -> &'a str {
        self.parameter
    }

    /// Whether it belongs to this class.
    pub(super) fn is_of(&self, class: &str) -> bool {
        self.class == class
    }

    /// Its key, for a report.
    pub(super) fn words(&self) -> String {
        // Made of letters, digits, `_`, `.` and `/`, so there is nothing to escape.
        self.key.chars().take(LONGEST_KEY).collect()
    }

    /// The complaint that it holds something else.
    pub(super) fn wrong(&self, expected: &str, found: &str) -> Error {
        Error::foreign(format!("gin line {} ({})", self.line, self.words()), expected, found)
    }
}

/// The class of a selector that may name its modules.
fn last_component(selector: &str) -> &str {
    selector.rsplit('.').next().unwrap_or(selector)
}

fn wrong(line: usize, expected: &str, found: &str) -> Error {
    Error::foreign(format!("gin line {line}"), expected, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIVE: &str = "\
import learned_optimization.research.general_lopt.hyper_v2
from learned_optimization import tasks as t

# Parameters for HyperV2:
# ====
HIDDEN = 16
SIZE = %HIDDEN
HyperV2.lstm_hidden_size = %SIZE  # a comment
HyperV2.initial_momentum_decays = \\
    (0.9, 0.99,
     0.999)
small/HyperV2.exp_mult = 1e-3
small/inner/HyperV2.exp_mult = 2e-3
learned_optimization.hyper_v2.HyperV2.param_inits = 8
TruncatedPES.trunc_length = 50
run_train.gradient_estimators = [
    @t1/FullES(),  # more

    @t2/FullES(),
]
run_train.lopt = @small/learned_optimization.HyperV2()";

    #[test]
    fn an_operative_config_is_read() {
        let config = Config::parse(OPERATIVE).unwrap();
        assert!(config.imports("learned_optimization.research.general_lopt.hyper_v2"));
        assert!(config.imports("learned_optimization.tasks") && !config.imports("learned_optimization"));
        let (scope, class) = config.optimizer().unwrap().unwrap();
        assert_eq!((scope.as_str(), class), ("small", "HyperV2"));
        let (ours, others) = config.of_class(&scope, class);
        let set: Vec<_> = ours.iter().map(|binding| (binding.parameter(), config.value(binding).unwrap())).collect();
        assert_eq!(set[0], ("lstm_hidden_size", Value::Integer(16)));
        let decays = [0.9, 0.99, 0.999].map(Value::Float).to_vec();
        assert_eq!(set[1], ("initial_momentum_decays", Value::Sequence(decays)));
        assert_eq!(set[2], ("param_inits", Value::Integer(8)));
        assert_eq!(set[3..], [("exp_mult", Value::Float(1e-3))], "the scope comes last, an inner one does not apply");
        let others: Vec<_> = others.iter().map(|binding| (binding.line, binding.words())).collect();
        assert_eq!(others[0], (13, "small/inner/HyperV2.exp_mult".into()));
        assert_eq!(others[1], (15, "TruncatedPES.trunc_length".into()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, word) in [
            ("\n\nHyperV2.x 3", 3, "a binding"),
            ("a.b = ", 1, "a value"),
            ("a.b = (1, 2", 1, "found the end"),
            ("a.b = 1 2", 1, "the end of the line"),
            ("a.b = 'x", 1, "closing quote"),
            ("# x\na.b = [1, }", 2, "a value"),
            ("include 'other.gin'", 1, "include"),
            ("a.b = 1.2.3", 1, "a number"),
            ("= 3", 1, "a binding"),
            ("a.b = f(3)", 1, "a value"),
            ("a.b = @", 1, "a name"),
            (".b = 3", 1, "a binding"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("gin line {line}")) && error.contains(word), "{text:?}: {error}");
        }
    }

    #[test]
    fn macros_that_never_end_and_deep_brackets_are_refused() {
        let config = Config::parse("A = %B\nB = %A\nrun_train.lopt = %A").unwrap();
        assert!(config.optimizer().unwrap_err().to_string().contains("refer to each other"));
        let config = Config::parse("run_train.lopt = %GONE").unwrap();
        assert!(config.optimizer().unwrap_err().to_string().contains("%GONE"));
        assert!(Config::parse(&format!("a.b = {}", "(".repeat(100_000))).unwrap_err().to_string().contains("levels"));
        assert!(
            Config::parse(&format!("a.b = [{}]", "0,".repeat(100_000))).unwrap_err().to_string().contains("values")
        );
        assert!(Config::parse(&" ".repeat(LONGEST + 1)).is_err());
    }
}
