//! Settings from bindings and back.

use serde_json::{Map, Value as Json};

use super::super::gin::{Binding, Config, Value};
use super::{Class, Constructor, Flags, Parameter, Role};
use crate::learned::LearnedOptimizerConfig;
use crate::{Error, Result};

/// A gin file, understood.
#[derive(Debug)]
pub(in crate::interchange) struct Described {
    pub(in crate::interchange) optimizer: LearnedOptimizerConfig,
    /// Keys of bindings that say nothing about it, in the order of the file.
    pub(in crate::interchange) ignored: Vec<String>,
}

/// The optimizer that a gin file describes.
///
/// # Errors
/// [`Error::Foreign`] with line and key: for what is no gin, a file that names no optimizer or one that is not built
/// here, a parameter that its class does not have (gin refuses that too), and a value we cannot compute with.
pub(in crate::interchange) fn describe(text: &str) -> Result<Described> {
    let config = Config::parse(text)?;
    let Some((scope, name)) = config.optimizer()? else {
        return Err(Error::foreign("gin", "a binding of run_train.lopt, which names the optimizer", "none"));
    };
    let (class, constructor) = Class::named(name).ok_or_else(|| {
        Error::foreign("gin (run_train.lopt)", format!("one of {}", Class::names()), Value::Text(name.into()).words())
    })?;
    let (bindings, others) = config.of_class(&scope, name);
    let mut settings: Map<_, _> = class.tags.iter().map(|(key, tag)| ((*key).to_owned(), Json::from(*tag))).collect();
    let mut flags = Flags::new();
    for parameter in constructor.parameters {
        let default = match parameter.role {
            Role::Fork(fork) if config.imports(fork.module) => Value::parse(fork.default)?,
            _ => parameter.default()?,
        };
        parameter.import(&default, &mut settings, &mut flags);
    }
    for binding in bindings {
        let parameter = constructor.parameters.iter().find(|parameter| parameter.name == binding.parameter());
        let parameter = parameter.ok_or_else(|| {
            binding.wrong(&format!("a parameter of {name}"), "one that its constructor does not have")
        })?;
        let value = config.value(binding)?;
        if !parameter.import(&value, &mut settings, &mut flags) {
            return Err(binding.wrong(&parameter.expected(), &value.words()));
        }
    }
    if let Some(joint) = constructor.joint {
        // Every flag has a default, so all of them are there.
        let word = (joint.word)(&flags);
        settings.insert(joint.setting.to_owned(), word.into());
    }
    let optimizer = serde_json::from_value(Json::Object(settings))
        .map_err(|error| Error::foreign(format!("gin ({name})"), "settings of this class", error.to_string()))?;
    let unrelated = |binding: &&&Binding<'_>| !(binding.parameter() == "lopt" && binding.is_of("run_train"));
    let ignored = others.iter().filter(unrelated).map(|binding| binding.words()).collect();
    Ok(Described { optimizer, ignored })
}

impl Parameter {
    fn default(&self) -> Result<Value<'static>> {
        Value::parse(self.default)
    }

    /// Takes the value into our settings, or among the flags. False if this parameter cannot have it.
    fn import(&self, value: &Value<'_>, settings: &mut Map<String, Json>, flags: &mut Flags) -> bool {
        let ours = match (self.role, value) {
            (Role::Unused, _) => return true,
            (Role::Flag, Value::Bool(flag)) => {
                flags.insert(self.name, *flag);
                return true;
            }
            (Role::Setting | Role::Fork(_) | Role::Rule, _) => json(value),
            (Role::Word(words), Value::Text(word)) => {
                words.iter().find(|(theirs, _)| theirs == word).map(|(_, ours)| Json::from(*ours))
            }
            (Role::Flag | Role::Word(_), _) => None,
        };
        let table = match self.role {
            Role::Rule => settings.entry("rule").or_insert_with(|| Json::Object(Map::new())).as_object_mut(),
            _ => Some(settings),
        };
        table.zip(ours).map(|(table, ours)| table.insert(self.name.to_owned(), ours)).is_some()
    }

    /// What this parameter can be, for a message.
    fn expected(&self) -> String {
        match self.role {
            Role::Flag => "True or False".into(),
            Role::Word(words) => {
                let words = words.iter().map(|(theirs, _)| format!("{theirs:?}")).collect::<Vec<_>>().join(", ");
                format!("one of {words}")
            }
            Role::Setting | Role::Fork(_) | Role::Rule | Role::Unused => {
                "a number, a text, True, False, None or a tuple of these".into()
            }
        }
    }

    /// Our setting as Python writes it; `None` if it is none of ours, or one of a fork that has the default.
    fn export(&self, settings: &Map<String, Json>) -> Option<String> {
        match self.role {
            Role::Setting => settings.get(self.name).map(python),
            Role::Rule => settings.get("rule")?.get(self.name).map(python),
            Role::Fork(_) => {
                let written = settings.get(self.name).map(python)?;
                let default = self.default().ok().as_ref().and_then(json).as_ref().map(python);
                (Some(&written) != default.as_ref()).then_some(written)
            }
            Role::Word(words) => {
                let ours = settings.get(self.name)?.as_str()?;
                words.iter().find(|(_, word)| *word == ours).map(|(theirs, _)| format!("'{theirs}'"))
            }
            Role::Flag | Role::Unused => None,
        }
    }
}

impl Class {
    /// The gin file that describes settings of this class: every parameter of ours, defaults included. `None` for what gin
    /// cannot call.
    pub(in crate::interchange) fn write(&self, optimizer: &LearnedOptimizerConfig) -> Result<Option<String>> {
        let Some(Constructor { name, module, parameters, joint }) = &self.constructor else { return Ok(None) };
        let settings = settings(optimizer)?;
        let mut module = *module;
        let mut bindings = String::new();
        for parameter in *parameters {
            let Some(value) = parameter.export(&settings) else { continue };
            if let Role::Fork(fork) = parameter.role {
                module = fork.module;
            }
            bindings.push_str(&format!("{name}.{} = {value}\n", parameter.name));
        }
        if let Some(joint) = joint {
            for (flag, value) in (joint.flags)(settings[joint.setting].as_str().unwrap_or_default()) {
                bindings.push_str(&format!("{name}.{flag} = {}\n", python(&Json::from(*value))));
            }
        }
        Ok(Some(format!("import {module}\n\n{bindings}run_train.lopt = @{name}()\n")))
    }
}

/// Settings as an object with `kind`.
pub(in crate::interchange) fn settings(optimizer: &LearnedOptimizerConfig) -> Result<Map<String, Json>> {
    match serde_json::to_value(optimizer) {
        Ok(Json::Object(settings)) => Ok(settings),
        other => Err(Error::foreign("settings", "an object", format!("{other:?}"))),
    }
}

fn json(value: &Value<'_>) -> Option<Json> {
    Some(match value {
        Value::None => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::Integer(value) => Json::from(i64::try_from(*value).ok()?),
        Value::Float(value) => Json::from(*value),
        Value::Text(text) => Json::from(text.as_str()),
        Value::Sequence(values) => Json::Array(values.iter().map(json).collect::<Option<_>>()?),
        Value::Dictionary(_) | Value::Reference { .. } | Value::Macro(_) => return None,
    })
}

/// A setting as Python writes it. Numbers are f32 and written with the fewest digits that give the same f32 back.
fn python(value: &Json) -> String {
    match value {
        Json::Null => "None".into(),
        Json::Bool(true) => "True".into(),
        Json::Bool(false) => "False".into(),
        Json::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{:?}", float as f32),
            _ => number.to_string(),
        },
        Json::String(text) => format!("{text:?}"),
        Json::Array(values) if values.len() == 1 => format!("({},)", python(&values[0])),
        Json::Array(values) => format!("({})", values.iter().map(python).collect::<Vec<_>>().join(", ")),
        Json::Object(_) => "None".into(),
    }
}
