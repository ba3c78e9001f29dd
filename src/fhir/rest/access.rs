//! Who may do what: bearer tokens with SMART scopes, or nobody but this machine.
//!
//! Scopes are those of SMART App Launch for back-end services, in the first form (`system/Communication.read`,
//! `.write`, `.*`) and the second (`system/Communication.rs`, any of `cruds` in that order). The types may be `*`.

use std::{collections::BTreeMap, path::Path, str::FromStr};

use serde::Deserialize;

use crate::{
    fhir::resources::ResourceType,
    service::{
        failure::{Failure, Status},
        listeners::Address,
        secrets::Secret,
        settings,
    },
};

/// Who may use the endpoint.
#[derive(Debug)]
pub enum Access {
    /// Everybody who reaches it, which only this machine can.
    Open,
    /// Whoever has one of the tokens.
    Tokens(Vec<Client>),
}

/// A client that has a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its name, for logs.
    pub name: String,
    token: Secret,
    scopes: Scopes,
}

/// What a client may do.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Scopes {
    any: Rights,
    by_type: BTreeMap<ResourceType, Rights>,
}

/// Letters of `cruds` as bits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Rights(u8);

/// One kind of access to a resource type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// `c`
    Create = 1,
    /// `r`: read, and the history of one resource.
    Read = 2,
    /// `u`
    Update = 4,
    /// `d`, which nobody can use here.
    Delete = 8,
    /// `s`: search, and the history of a type.
    Search = 16,
}

/// Shortest token that is taken: 128 bits as hexadecimal digits.
const SHORTEST_TOKEN: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    client: Vec<Client>,
}

// === impl Access ===

impl Access {
    /// Access by the tokens in a file; without a file, open to those on this machine.
    ///
    /// The file is TOML, readable by its owner only: `[[client]]` tables with `name`, `token` and `scopes`
    /// (`"system/Communication.rs system/Task.write"`).
    ///
    /// # Errors
    /// When the file is wrong, or there is none and an address can be reached from other machines.
    pub fn new(tokens_file: Option<&Path>, addresses: &[Address]) -> Result<Self, Failure> {
        let Some(path) = tokens_file else {
            let reachable = addresses.iter().find(|address| match address {
                Address::Tcp(address) => !address.ip().is_loopback(),
                Address::Unix(_) => false,
                Address::Inherited(_) => true,
            });
            return match reachable {
                None => Ok(Self::Open),
                Some(address) => Err(Failure::new(
                    Status::Config,
                    format!("the FHIR endpoint would be open to everybody on {address}"),
                )
                .remedy("Name a file with tokens, or listen on 127.0.0.1.")),
            };
        };
        let text = Secret::read(path)?;
        let name = path.display().to_string();
        let file: TokensFile = settings::parse_toml(text.expose(), &name)?;
        for client in &file.client {
            if client.token.expose().len() < SHORTEST_TOKEN {
                return Err(Failure::new(
                    Status::Config,
                    format!("{name}: the token of {:?} is shorter than {SHORTEST_TOKEN} characters", client.name),
                )
                .remedy("Make one with `openssl rand -hex 32`."));
            }
        }
        Ok(Self::Tokens(file.client))
    }

    /// The client with a token; every token is compared, so that the time tells nothing.
    pub fn client(&self, token: &str) -> Option<&Client> {
        let Self::Tokens(clients) = self else { return None };
        clients.iter().fold(None, |found, client| if client.token.matches(token) { Some(client) } else { found })
    }

    /// Whether tokens are asked for.
    pub fn is_secured(&self) -> bool {
        matches!(self, Self::Tokens(_))
    }
}

// === impl Client ===

impl Client {
    /// What it may do.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }
}

// === impl Scopes ===

impl Scopes {
    /// Scopes that allow everything, for those on this machine.
    pub(super) fn all() -> Self {
        Self { any: Rights(31), by_type: BTreeMap::new() }
    }

    /// Whether something may be done with a type; `None` is all types.
    pub fn allow(&self, right: Right, kind: Option<ResourceType>) -> bool {
        let own = kind.and_then(|kind| self.by_type.get(&kind)).copied().unwrap_or_default();
        (self.any.0 | own.0) & right as u8 != 0
    }
}

impl FromStr for Scopes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut scopes = Self::default();
        for scope in text.split_whitespace() {
            let wrong = || format!("{scope:?} is not a scope such as system/Communication.rs or system/*.read");
            let (kind, rights) =
                scope.strip_prefix("system/").and_then(|rest| rest.split_once('.')).ok_or_else(wrong)?;
            let rights: Rights = rights.parse().map_err(|()| wrong())?;
            let held = match kind {
                "*" => &mut scopes.any,
                kind => scopes.by_type.entry(kind.parse().map_err(|_| wrong())?).or_default(),
            };
            held.0 |= rights.0;
        }
        Ok(scopes)
    }
}

impl TryFrom<String> for Scopes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

// === impl Rights ===

impl FromStr for Rights {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (create, read, update, delete, search) =
            (Right::Create as u8, Right::Read as u8, Right::Update as u8, Right::Delete as u8, Right::Search as u8);
        match text {
            "read" => return Ok(Self(read | search)),
            "write" => return Ok(Self(create | update | delete)),
            "*" => return Ok(Self(31)),
            "" => return Err(()),
            _ => {}
        }
        let mut rights = 0;
        for letter in text.chars() {
            let right = match letter {
                'c' => create,
                'r' => read,
                'u' => update,
                'd' => delete,
                's' => search,
                _ => return Err(()),
            };
            // In this order, each once: the bits grow.
            if right <= rights {
                return Err(());
            }
            rights |= right;
        }
        Ok(Self(rights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_both_forms_are_read() {
        let scopes: Scopes = "system/Communication.read system/Task.cu system/*.s".parse().unwrap();
        for (right, kind, allowed) in [
            (Right::Read, ResourceType::Communication, true),
            (Right::Create, ResourceType::Communication, false),
            (Right::Create, ResourceType::Task, true),
            (Right::Read, ResourceType::Task, false),
            (Right::Search, ResourceType::Patient, true),
            (Right::Read, ResourceType::Patient, false),
        ] {
            assert_eq!(scopes.allow(right, Some(kind)), allowed, "{right:?} {kind}");
        }
        assert!(scopes.allow(Right::Search, None) && !scopes.allow(Right::Read, None));
        for wrong in
            ["patient/Task.read", "system/Nonsense.read", "system/Task", "system/Task.", "system/Task.ruc", "x"]
        {
            assert!(wrong.parse::<Scopes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_tokens_only_this_machine_gets_in() {
        assert!(matches!(Access::new(None, &["127.0.0.1:1234".parse().unwrap()]), Ok(Access::Open)));
        for open in ["0.0.0.0:1234", "[::]:1234", "systemd:fhir"] {
            let failure = Access::new(None, &[open.parse().unwrap()]).unwrap_err();
            assert!(failure.to_string().contains(open), "{failure}");
        }
    }

    #[test]
    fn a_file_of_tokens_is_read_and_checked() {
        use crate::service::files;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        let token = "0123456789abcdef0123456789abcdef";
        let text = format!("[[client]]\nname = \"a\"\ntoken = \"{token}\"\nscopes = \"system/*.read\"\n");
        files::write(&path, text.as_bytes(), files::SECRET).unwrap();
        let access = Access::new(Some(&path), &[]).unwrap();
        assert_eq!(access.client(token).unwrap().name, "a");
        assert!(access.client("other").is_none());
        assert!(!format!("{access:?}").contains(token));
        files::write(&path, text.replace(token, "short").as_bytes(), files::SECRET).unwrap();
        assert!(Access::new(Some(&path), &[]).unwrap_err().to_string().contains("shorter"));
        files::write(&path, text.replace("*.read", "*.all").as_bytes(), files::SECRET).unwrap();
        let failure = Access::new(Some(&path), &[]).unwrap_err().to_string();
        assert!(failure.contains("not a scope") && !failure.contains(token), "{failure}");
    }
}
