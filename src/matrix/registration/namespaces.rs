//! Namespaces: which users, aliases and rooms an application service cares for.

use std::fmt;

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::matrix::yaml;

/// Memory that a compiled pattern may take, in bytes.
const PATTERN_MEMORY: usize = 1024 * 1024;

/// The three lists of a registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Users, by Matrix id.
    #[serde(default)]
    pub users: Vec<Namespace>,
    /// Room aliases.
    #[serde(default)]
    pub aliases: Vec<Namespace>,
    /// Rooms, by room id.
    #[serde(default)]
    pub rooms: Vec<Namespace>,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Whether nobody else may have what matches. It must be written out for every entry.
    pub exclusive: bool,
    /// What matches.
    pub regex: Pattern,
}

/// A regular expression, with the meaning that Synapse gives it: it matches from the beginning, not to the end.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: Regex,
}

// === impl Namespaces ===

impl Namespaces {
    /// Whether a Matrix id is in the users' list.
    pub fn users(&self, user: &str) -> bool {
        any(&self.users, user)
    }

    /// Whether an alias is in the aliases' list.
    pub fn aliases(&self, alias: &str) -> bool {
        any(&self.aliases, alias)
    }

    /// Whether a room id is in the rooms' list.
    pub fn rooms(&self, room: &str) -> bool {
        any(&self.rooms, room)
    }
}

fn any(list: &[Namespace], id: &str) -> bool {
    list.iter().any(|namespace| namespace.regex.matches(id))
}

// === impl Pattern ===

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        // Compiled alone first: `a)(b` must not become legal by the group around it.
        let compile = |text: &str| regex::RegexBuilder::new(text).size_limit(PATTERN_MEMORY).build();
        let compiled = compile(text).and_then(|_| compile(&format!("^(?:{text})")));
        match compiled {
            Ok(compiled) => Ok(Self { text: text.to_owned(), compiled }),
            Err(error) => {
                let error = error.to_string();
                let cause = error.lines().last().unwrap_or(&error).trim();
                Err(format!("{text:?} is not a regular expression: {}", cause.strip_prefix("error: ").unwrap_or(cause)))
            }
        }
    }

    /// Whether an id begins with what the pattern says.
    pub fn matches(&self, id: &str) -> bool {
        self.compiled.is_match(id)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        yaml::checked(deserializer, Self::new)
    }
}
