//! Settings: defaults < TOML file < environment < command line, merged by figment.
//!
//! An error names the file and line, or the variable, the key, and what was expected. Unknown keys are errors:
//! settings types carry `#[serde(deny_unknown_fields)]`.

use std::{env, path::Path};

use figment::{
    Figment, Metadata, Profile, Provider,
    error::{Actual, Kind},
    providers::Serialized,
    value::{Dict, Map, Value},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    failure::{Failure, Status},
    files,
};

/// Largest settings file that is read, in bytes.
pub const LIMIT: u64 = 1024 * 1024;

/// Loads settings of type `T`.
///
/// `prefix` is that of the environment variables with its trailing underscore (`FEDERATION_PROXY_`); two underscores
/// in a variable's name go one table down: `FEDERATION_PROXY_LIMITS__BODY_BYTES`. `arguments` are the settings given
/// on the command line; `None` and missing fields in it leave the others as they are.
///
/// # Errors
/// A [`Failure`] with status [`Status::Config`] that names where the mistake is and what was expected there.
pub fn load<T>(prefix: &str, file: Option<&Path>, arguments: impl Serialize) -> Result<T, Failure>
where
    T: Default + Serialize + DeserializeOwned,
{
    let mut figment = Figment::from(Serialized::defaults(T::default()));
    let text = file.map(|path| files::read_text(path, LIMIT)).transpose()?;
    if let (Some(path), Some(text)) = (file, &text) {
        figment = figment.merge(TomlFile::parse(text, &path.display().to_string())?);
    }
    merge(figment, &Variables::from_environment(prefix), arguments, text.as_deref())
}

fn merge<T: DeserializeOwned>(
    figment: Figment,
    variables: &Variables,
    arguments: impl Serialize,
    text: Option<&str>,
) -> Result<T, Failure> {
    let arguments = Serialized::defaults(without_nulls(arguments)?);
    let mut as_text = Vec::new();
    loop {
        let attempt = variables.merge_into(figment.clone(), &as_text).merge(&arguments);
        let error = match attempt.extract::<T>() {
            Ok(settings) => return Ok(settings),
            Err(error) => error,
        };
        // A variable such as TOKEN=12345 looks like a number; where a text is wanted, it is one.
        if wants_text(&error) && variables.holds(&error.path) && !as_text.contains(&error.path) {
            as_text.push(error.path.clone());
            continue;
        }
        return Err(describe(&error, &variables.prefix, text));
    }
}

/// Reads one TOML document into a value.
///
/// # Errors
/// A [`Failure`] with `name:line`, the key and what was expected there.
pub fn parse_toml<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, Failure> {
    Figment::from(TomlFile::parse(text, name)?).extract().map_err(|error| describe(&error, "", Some(text)))
}

/// A parsed TOML file as a source of settings.
struct TomlFile {
    name: String,
    content: Dict,
}

impl TomlFile {
    fn parse(text: &str, name: &str) -> Result<Self, Failure> {
        let content = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            Failure::new(Status::Config, format!("{name}:{line}: not TOML: {}", error.message()))
        })?;
        Ok(Self { name: name.to_owned(), content })
    }
}

impl Provider for TomlFile {
    fn metadata(&self) -> Metadata {
        Metadata::named("file").source(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.content.clone())]))
    }
}

/// The environment variables with a prefix.
struct Variables {
    prefix: String,
    found: Vec<Variable>,
}

/// One environment variable as a source of settings.
struct Variable {
    path: Vec<String>,
    value: String,
}

// === impl Variables ===

impl Variables {
    fn from_environment(prefix: &str) -> Self {
        let found = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter_map(|(name, value)| Some(Variable::new(&name.strip_prefix(prefix)?.to_ascii_lowercase(), value)))
            .collect();
        Self { prefix: prefix.to_owned(), found }
    }

    fn holds(&self, path: &[String]) -> bool {
        self.found.iter().any(|variable| variable.path == path)
    }

    /// Merges the variables in; those in `as_text` are texts whatever they look like.
    fn merge_into(&self, figment: Figment, as_text: &[Vec<String>]) -> Figment {
        self.found.iter().fold(figment, |figment, variable| {
            let value = if as_text.contains(&variable.path) {
                Value::from(variable.value.as_str())
            } else {
                // figment's own reading of a variable: a TOML-like value, else a text.
                variable.value.parse().unwrap_or_else(|never| match never {})
            };
            let content = figment::util::nest(&variable.path.join("."), value);
            figment.merge(VariableSource { content: content.into_dict().unwrap_or_default() })
        })
    }
}

impl Variable {
    fn new(key: &str, value: String) -> Self {
        Self { path: key.split("__").map(str::to_owned).collect(), value }
    }
}

struct VariableSource {
    content: Dict,
}

impl Provider for VariableSource {
    fn metadata(&self) -> Metadata {
        Metadata::named(ENVIRONMENT)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.content.clone())]))
    }
}

const ENVIRONMENT: &str = "environment";

fn wants_text(error: &figment::Error) -> bool {
    matches!(
        &error.kind,
        Kind::InvalidType(Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) | Actual::Bool(_), expected)
            if expected.contains("string") || expected.contains("path")
    )
}

/// The arguments that were given: those that are `None` leave what stands below them.
fn without_nulls(arguments: impl Serialize) -> Result<Dict, Failure> {
    fn strip(fields: &mut Dict) {
        fields.retain(|_, field| !matches!(field, Value::Empty(..)));
        for field in fields.values_mut() {
            if let Value::Dict(_, inner) = field {
                strip(inner);
            }
        }
    }
    let value = Value::serialize(arguments)
        .map_err(|error| Failure::new(Status::Usage, "these arguments cannot be settings").because(error))?;
    let mut fields = value.into_dict().unwrap_or_default();
    strip(&mut fields);
    Ok(fields)
}

/// `nix/network.toml:16: organisations.huisarts.homeserver_port: expected u16, found string "8028"`.
fn describe(error: &figment::Error, prefix: &str, text: Option<&str>) -> Failure {
    let mut keys = error.path.clone();
    let problem = match &error.kind {
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("expected {expected}, found {actual}")
        }
        Kind::UnknownField(field, known) => {
            if keys.last() != Some(field) {
                keys.push(field.clone());
            }
            format!("no such setting; known here are {}", known.join(", "))
        }
        Kind::UnknownVariant(found, known) => format!("expected one of {}, found {found:?}", known.join(", ")),
        Kind::MissingField(field) => format!("the setting `{field}` is missing"),
        other => other.to_string(),
    };
    let place = place(error, &keys, prefix, text);
    Failure::new(Status::Config, if place.is_empty() { problem } else { format!("{place}: {problem}") })
}

/// Where a mistake stands: the variable, or the file, line and key, as far as they are known.
fn place(error: &figment::Error, keys: &[String], prefix: &str, text: Option<&str>) -> String {
    let key = keys.join(".");
    let Some(metadata) = &error.metadata else { return key };
    if metadata.name == ENVIRONMENT {
        return format!("{prefix}{}", keys.join("__").to_ascii_uppercase());
    }
    let Some(name) = metadata.source.as_ref().and_then(figment::Source::custom) else { return key };
    match text.and_then(|text| line_of_key(text, keys)) {
        Some(line) if key.is_empty() => format!("{name}:{line}"),
        Some(line) => format!("{name}:{line}: {key}"),
        None => format!("{name}: {key}"),
    }
}

/// The line, from 1, on which a key, or the nearest table above it, stands.
fn line_of_key(text: &str, keys: &[String]) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut at = None;
    for part in keys {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part.as_str()) else { break };
        at = Some(name.span().start);
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    at.map(|offset| line_of(text, offset))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        token: String,
        limits: Limits,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Limits {
        bytes: u32,
    }

    #[derive(Serialize)]
    struct Arguments {
        token: Option<String>,
        limits: Limits,
    }

    fn with_variables(variables: &[(&str, &str)]) -> Result<Settings, Failure> {
        let found = variables.iter().map(|(key, value)| Variable::new(key, (*value).to_owned())).collect();
        let variables = Variables { prefix: "TEST_".to_owned(), found };
        merge(Figment::from(Serialized::defaults(Settings::default())), &variables, (), None)
    }

    #[test]
    fn a_text_that_looks_like_a_number_is_a_text() {
        let settings = with_variables(&[("token", "12345"), ("limits__bytes", "7")]).unwrap();
        assert_eq!(settings, Settings { token: "12345".to_owned(), limits: Limits { bytes: 7 } });
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let failure = with_variables(&[("limits__bytes", "many")]).unwrap_err();
        assert_eq!(failure.to_string(), "TEST_LIMITS__BYTES: expected u32, found string \"many\"");
    }

    #[test]
    fn arguments_win_over_the_file_and_the_file_over_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.toml");
        std::fs::write(&path, "token = \"file\"\n[limits]\nbytes = 1\n").unwrap();
        let arguments = Arguments { token: None, limits: Limits { bytes: 2 } };
        let settings: Settings = load("CARE_FEDERATION_TEST_NONE_", Some(&path), arguments).unwrap();
        assert_eq!(settings, Settings { token: "file".to_owned(), limits: Limits { bytes: 2 } });
    }

    #[test]
    fn mistakes_in_a_file_are_named_with_their_line() {
        for (text, message) in [
            ("token = 1", "f.toml:1: token: expected a string, found signed int `1`"),
            ("\n[limits]\nbites = 1", "f.toml:3: limits.bites: no such setting; known here are bytes"),
            ("token = \n", "f.toml:1: not TOML: "),
        ] {
            let failure = parse_toml::<Settings>(text, "f.toml").unwrap_err();
            assert!(failure.to_string().starts_with(message), "{failure}");
        }
    }
}
