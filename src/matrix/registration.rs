//! The registration: the file by which a homeserver and an application service know each other.
//!
//! Format: Matrix specification, Application Service API, "Registration". Mistakes are reported with file, line and
//! key, because this file is written by hand and a homeserver only says that it does not start.

mod namespaces;

use std::{os::unix::fs::MetadataExt as _, path::Path};

use ruma::{OwnedUserId, ServerName, UserId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::yaml;
use crate::service::{
    failure::{Failure, Status},
    files,
    secrets::Secret,
};

pub use namespaces::{Namespace, Namespaces, Pattern};

/// Largest registration file that is read, in bytes.
const LIMIT: u64 = 256 * 1024;
/// Random bytes in a new token.
const TOKEN_BYTES: usize = 32;
/// The keys that this program understands, and those of known extensions that do no harm.
const KNOWN_KEYS: [&str; 13] = [
    "id",
    "url",
    "as_token",
    "hs_token",
    "sender_localpart",
    "namespaces",
    "rate_limited",
    "protocols",
    "receive_ephemeral",
    "de.sorunome.msc2409.push_ephemeral",
    "push_ephemeral",
    "org.matrix.msc3202",
    "io.element.msc4190",
];

/// An application service as its homeserver knows it.
///
/// Its `Debug` form shows no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Name of the application service; unique on its homeserver and never changed.
    #[serde(deserialize_with = "an_id")]
    pub id: String,
    /// Where the homeserver reaches the application service; `None` if it is never called.
    #[serde(default, deserialize_with = "a_url")]
    pub url: Option<String>,
    /// What the application service shows to the homeserver.
    #[serde(serialize_with = "exposed", deserialize_with = "a_token")]
    pub as_token: Secret,
    /// What the homeserver shows to the application service.
    #[serde(serialize_with = "exposed", deserialize_with = "a_token")]
    pub hs_token: Secret,
    /// Localpart of the application service's own user, its bot.
    #[serde(deserialize_with = "a_localpart")]
    pub sender_localpart: String,
    /// Whether the homeserver limits the rate of this service's users.
    #[serde(default = "yes")]
    pub rate_limited: bool,
    /// Third-party networks that can be looked up through this service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<String>,
    /// Whether receipts, typing and presence are wanted.
    #[serde(default, alias = "de.sorunome.msc2409.push_ephemeral", alias = "push_ephemeral")]
    pub receive_ephemeral: bool,
    /// The users, aliases and rooms that this service cares for.
    pub namespaces: Namespaces,
}

/// What a new registration is made from.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// See [`Registration::id`].
    pub id: String,
    /// See [`Registration::url`].
    pub url: String,
    /// See [`Registration::sender_localpart`].
    pub sender_localpart: String,
    /// What the localparts of ghosts and aliases begin with.
    pub prefix: String,
    /// See [`Registration::protocols`].
    pub protocols: Vec<String>,
    /// Whether the service is told of every room of the homeserver, as in the original's file (`!*`).
    ///
    /// Without it a service hears of the rooms that its bot, a ghost or an alias of its own is in, which is all that
    /// a bridge needs; with it, it reads every conversation and all presence of the organisation.
    pub every_room: bool,
}

impl Default for Blueprint {
    /// The network's FHIR bridge.
    fn default() -> Self {
        Self {
            id: "FHIR Bridge".to_owned(),
            url: "http://127.0.0.1:1234".to_owned(),
            sender_localpart: "_fhir".to_owned(),
            prefix: "_fhir_bridge_".to_owned(),
            protocols: vec!["fhir".to_owned()],
            every_room: false,
        }
    }
}

// === impl Registration ===

impl Registration {
    /// A new registration with fresh tokens.
    ///
    /// # Errors
    /// When the blueprint is not legal, or the system has no randomness to give.
    pub fn generate(blueprint: &Blueprint) -> Result<Self, Failure> {
        let refuse =
            |key: &str, problem: String| Failure::new(Status::Config, format!("registration: {key}: {problem}"));
        let prefix = regex::escape(&localpart(&blueprint.prefix).map_err(|problem| refuse("prefix", problem))?);
        let pattern = |text: String| Pattern::new(&text).map_err(|problem| refuse("namespaces", problem));
        let rooms = if blueprint.every_room {
            vec![Namespace { exclusive: false, regex: pattern("!*".to_owned())? }]
        } else {
            Vec::new()
        };
        Ok(Self {
            id: id(&blueprint.id).map_err(|problem| refuse("id", problem))?,
            url: Some(url(&blueprint.url).map_err(|problem| refuse("url", problem))?),
            as_token: Secret::random(TOKEN_BYTES)?,
            hs_token: Secret::random(TOKEN_BYTES)?,
            sender_localpart: localpart(&blueprint.sender_localpart)
                .map_err(|problem| refuse("sender_localpart", problem))?,
            rate_limited: false,
            protocols: blueprint.protocols.clone(),
            receive_ephemeral: true,
            namespaces: Namespaces {
                users: vec![Namespace { exclusive: true, regex: pattern(format!("@{prefix}.*"))? }],
                aliases: vec![Namespace { exclusive: true, regex: pattern(format!("#{prefix}.*"))? }],
                rooms,
            },
        })
    }

    /// Reads a registration from YAML; `name` is what errors call it.
    ///
    /// # Errors
    /// A [`Failure`] of the form `name:line: key: what is wrong`. It never shows a token.
    pub fn parse(text: &str, name: &str) -> Result<Self, Failure> {
        let registration: Self = yaml::read(text, name)?;
        if registration.as_token == registration.hs_token {
            return Err(Failure::new(Status::Config, format!("{name}: as_token and hs_token are the same"))
                .remedy("Make a different one for each direction: one leaked token should not open both."));
        }
        Ok(registration)
    }

    /// Reads a registration file.
    ///
    /// # Errors
    /// As [`Registration::parse`], and when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        Self::parse(&files::read_text(path, LIMIT)?, &path.display().to_string())
    }

    /// Reads the registration file, or makes one with fresh tokens there when it does not exist. Says which it did.
    ///
    /// # Errors
    /// As [`Registration::read`] and [`Registration::write`].
    pub fn read_or_make(path: &Path, blueprint: &Blueprint) -> Result<(Self, Origin), Failure> {
        if path.exists() {
            return Ok((Self::read(path)?, Origin::Read));
        }
        let registration = Self::generate(blueprint)?;
        registration.write(path)?;
        Ok((registration, Origin::Made))
    }

    /// As [`Registration::read_or_make`]; where the file names another address than the blueprint, that is written into
    /// it, and its tokens are kept.
    ///
    /// # Errors
    /// As [`Registration::read_or_make`], and when the blueprint's address is not one that a homeserver can call.
    pub fn read_or_make_at(path: &Path, blueprint: &Blueprint) -> Result<(Self, Origin), Failure> {
        let (registration, origin) = Self::read_or_make(path, blueprint)?;
        let address = url(&blueprint.url)
            .map_err(|problem| Failure::new(Status::Config, format!("registration: url: {problem}")))?;
        if registration.url.as_ref() == Some(&address) {
            return Ok((registration, origin));
        }
        let registration = Self { url: Some(address), ..registration };
        registration.write(path)?;
        Ok((registration, Origin::Changed))
    }

    /// Writes the file atomically, for the owner alone (mode 0600).
    ///
    /// # Errors
    /// A [`Failure`] that names the path.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        files::write(path, self.to_yaml()?.as_bytes(), files::SECRET)
    }

    /// The registration as YAML, tokens included.
    ///
    /// # Errors
    /// Never for a registration that this module made or read.
    pub fn to_yaml(&self) -> Result<String, Failure> {
        Ok(format!("# The homeserver and the bridge both read this file. It holds secrets.\n{}", yaml::write(self)?))
    }

    /// The same registration with fresh tokens, after a leak.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn with_fresh_tokens(&self) -> Result<Self, Failure> {
        Ok(Self { as_token: Secret::random(TOKEN_BYTES)?, hs_token: Secret::random(TOKEN_BYTES)?, ..self.clone() })
    }

    /// The Matrix id of the application service's own user.
    ///
    /// # Errors
    /// When localpart and server name together are longer than a Matrix id may be (255 bytes).
    pub fn bot(&self, server: &ServerName) -> Result<OwnedUserId, Failure> {
        UserId::parse(format!("@{}:{server}", self.sender_localpart)).map_err(|error| {
            Failure::new(Status::Config, format!("@{}:{server} is not a Matrix id", self.sender_localpart))
                .because(error)
        })
    }

    /// Whether a user is acted for by this service: its bot, or a local user in its namespace.
    pub fn controls(&self, user: &UserId, server: &ServerName) -> bool {
        user.server_name() == server
            && (user.localpart() == self.sender_localpart || self.namespaces.users(user.as_str()))
    }

    /// The remarks on a file, and whether others than its owner and group can read the tokens in it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn remarks_on(&self, path: &Path) -> Result<Vec<String>, Failure> {
        let mut remarks = self.remarks(&files::read_text(path, LIMIT)?);
        let mode = std::fs::metadata(path).map_err(|error| files::cannot("read", path, error))?.mode();
        if mode & 0o007 != 0 {
            let path = path.display();
            remarks.push(format!("everybody on this machine can read the tokens in {path}: chmod 640 {path}"));
        }
        Ok(remarks)
    }

    /// What is legal in this file but will surprise: for `check-config` and the start-up log. No tokens.
    pub fn remarks(&self, text: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.receive_ephemeral {
            remarks.push(
                "receive_ephemeral is not true: read receipts will not arrive, so Tasks will not be completed"
                    .to_owned(),
            );
        }
        if self.url.is_none() {
            remarks.push("url is not set: the homeserver will never call".to_owned());
        }
        if self.rate_limited {
            remarks.push("rate_limited is true or not set: the homeserver will slow the bridge down".to_owned());
        }
        if self.namespaces.rooms("!any:example.org") {
            remarks.push("namespaces.rooms matches every room: the bridge is sent all conversations".to_owned());
        }
        let unknown = yaml::keys(text).into_iter().filter(|key| !KNOWN_KEYS.contains(&key.as_str()));
        remarks.extend(unknown.map(|key| format!("{key} is not a key of a registration file; it is ignored")));
        remarks
    }
}

/// Where a registration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file was there.
    Read,
    /// The file was made; the homeserver does not know it yet.
    Made,
    /// The file was there with another address; the homeserver does not know the new one yet.
    Changed,
}

fn yes() -> bool {
    true
}

fn id(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn url(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("{text:?} {why}; expected an address such as http://127.0.0.1:1234"));
    match text.parse::<http::Uri>() {
        Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => wrong("is neither http: nor https:"),
        Ok(uri) if uri.query().is_some() => wrong("must not have a query"),
        Ok(uri) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
            Err("must not hold a user name or password".to_owned())
        }
        Ok(_) => Ok(text.trim_end_matches('/').to_owned()),
        Err(_) => wrong("is not a URL"),
    }
}

/// A localpart as the specification's grammar for new user ids has it.
fn localpart(text: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
    if !text.is_empty() && text.bytes().all(legal) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a localpart: use a to z, 0 to 9 and . _ = - / +, with no @ and no server name"))
    }
}

/// A token can stand in an HTTP header. The message does not show it.
fn token(text: &str) -> Result<Secret, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Secret::new(text))
    } else {
        Err("a token must have at least one character, and only printable ASCII without spaces".to_owned())
    }
}

fn an_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    yaml::checked(deserializer, id)
}

fn a_localpart<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    yaml::checked(deserializer, localpart)
}

fn a_token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    yaml::checked(deserializer, token)
}

fn a_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Checked(String);

    impl<'de> Deserialize<'de> for Checked {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            yaml::checked(deserializer, url).map(Self)
        }
    }

    Ok(Option::<Checked>::deserialize(deserializer)?.map(|checked| checked.0))
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

#[cfg(test)]
mod tests;
