//! Who can log in: an administrator and a person for each homeserver, and whom `users add` makes.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    client::{Reach, Server},
    places::Places,
};
use crate::service::{
    failure::{Failure, Status},
    files,
    network::Network,
    secrets::Secret,
};

/// What to do when the list of users is not what it was: only there are the passwords.
const PASSWORDS_LOST: &str = "Put users.json back from a backup; without it the network's state can only be begun anew, with `federation-lab reset`.";
/// Largest list of users that is read, in bytes.
const LIMIT: u64 = 16 * 1024 * 1024;
/// Random bytes of a made password.
const PASSWORD_BYTES: usize = 10;
/// The name of each homeserver's administrator.
pub const ADMIN: &str = "admin";
/// The people of the lab, one for each organisation in alphabetical order.
const PEOPLE: [&str; 8] = ["anna", "bram", "carla", "daan", "eva", "finn", "gijs", "hanna"];

/// Users by their full Matrix id, with their passwords; a file of mode 0600.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    known: BTreeMap<String, User>,
}

/// One user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// Its password.
    password: String,
    /// Whether it may use Synapse's admin API.
    pub admin: bool,
    /// Whether the homeserver has it: a password is kept before it is used, so that none is ever lost.
    registered: bool,
}

/// The two parts of a Matrix id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The part before the colon.
    pub local: String,
    /// The server's name.
    pub server: String,
}

// === impl Name ===

impl Name {
    /// Reads `anna@vvt` or `@anna:vvt`.
    ///
    /// # Errors
    /// When it is neither, or the user part has characters that Matrix does not allow (appendix "User identifiers").
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let parts = match text.strip_prefix('@') {
            Some(id) => id.split_once(':'),
            None => text.split_once('@'),
        };
        let wrong = |why: &str| {
            Failure::new(Status::Usage, format!("{text:?} is no user: {why}"))
                .remedy("Write NAME@SERVER or @NAME:SERVER, for example anna@vvt.")
        };
        let (local, server) = parts.ok_or_else(|| wrong("the server is missing"))?;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=-/+".contains(c);
        if local.is_empty() || !local.chars().all(allowed) {
            return Err(wrong("a name has lower-case letters, digits and ._=-/+ only"));
        }
        Ok(Self { local: local.to_owned(), server: server.to_owned() })
    }

    /// The full Matrix id.
    pub fn id(&self) -> String {
        format!("@{}:{}", self.local, self.server)
    }
}

// === impl User ===

impl User {
    /// Its password.
    pub fn password(&self) -> Secret {
        Secret::new(&self.password)
    }
}

// === impl Users ===

impl Users {
    /// The users that are known; none where there is no list yet.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn read(places: &Places) -> Result<Self, Failure> {
        let path = places.users();
        let known = match files::read_text(&path, LIMIT) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                Failure::new(Status::Data, format!("{} is not a list of users", path.display()))
                    .because(error)
                    .remedy(PASSWORDS_LOST)
            })?,
            Err(failure) if failure.status() == Status::NoInput => BTreeMap::new(),
            Err(failure) => return Err(failure),
        };
        Ok(Self { path, known })
    }

    /// All users by their full Matrix id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &User)> {
        self.known.iter().map(|(id, user)| (id.as_str(), user))
    }

    /// The users that every lab has: an administrator and a person for each organisation.
    pub fn everybody(network: &Network) -> Vec<(Name, bool)> {
        let name = |local: &str, server: &str| Name { local: local.to_owned(), server: server.to_owned() };
        let people = PEOPLE.iter().cycle();
        let each = network.names().zip(people);
        each.flat_map(|(server, person)| [(name(ADMIN, server), true), (name(person, server), false)]).collect()
    }

    /// Sees to it that users exist; one that does keeps its password.
    ///
    /// # Errors
    /// When a homeserver does not run or refuses, or the list cannot be written.
    pub async fn ensure(&mut self, places: &Places, network: &Network, wanted: &[(Name, bool)]) -> anyhow::Result<()> {
        for (name, admin) in wanted {
            homeserver(network, &name.server)?;
            if let Entry::Vacant(place) = self.known.entry(name.id()) {
                let password = Secret::random(PASSWORD_BYTES)?.expose().to_owned();
                place.insert(User { password, admin: *admin, registered: false });
            }
        }
        let missing: Vec<&Name> = wanted
            .iter()
            .map(|(name, _)| name)
            .filter(|name| self.known.get(&name.id()).is_some_and(|user| !user.registered))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.keep()?;
        let made = missing.iter().map(async |name| {
            let user = self.known.get(&name.id()).context("a user that was just listed")?;
            register(places, network, name, user).await
        });
        futures_util::future::try_join_all(made).await?;
        for name in missing {
            self.known.entry(name.id()).and_modify(|user| user.registered = true);
        }
        Ok(self.keep()?)
    }

    fn keep(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(&self.known)
            .map_err(|error| Failure::new(Status::Data, "cannot write the users as JSON").because(error))?;
        files::write(&self.path, &text, files::SECRET)
    }
}

async fn register(places: &Places, network: &Network, name: &Name, user: &User) -> anyhow::Result<()> {
    let server = homeserver(network, &name.server)?;
    let shared = Secret::read(&places.registration_secret(&name.server))?;
    match server.register(&name.local, &user.password(), user.admin, &shared).await {
        Ok(()) => Ok(()),
        // The lab ended between making the user and noting that it did; then the password on the list is its own.
        Err(error) if error.refusal().is_some_and(|(_, code)| code == "M_USER_IN_USE") => {
            let known = server.log_in(&name.local, &user.password()).await;
            known.map(|_| ()).map_err(|error| {
                Failure::new(
                    Status::Failed,
                    format!("{} exists already with a password that the lab does not know", name.id()),
                )
                .because(error)
                .remedy(PASSWORDS_LOST)
                .into()
            })
        }
        Err(error) => Err(anyhow::Error::from(error).context(format!("cannot make the user {}", name.id()))),
    }
}

/// A homeserver of the lab at its own private address, past the proxy.
fn homeserver(network: &Network, name: &str) -> anyhow::Result<Server> {
    let Some(organisation) = network.organisations.get(name) else {
        let known: Vec<&str> = network.names().collect();
        return Err(Failure::new(Status::Usage, format!("the network has no server {name:?}"))
            .remedy(format!("It has {}.", known.join(", ")))
            .into());
    };
    let address = SocketAddr::from(([127, 0, 0, 1], organisation.homeserver_port));
    Ok(Server::new(name, &format!("http://{address}"), &Reach::default())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_be_written_in_two_ways() {
        let anna = Name { local: "anna".to_owned(), server: "vvt".to_owned() };
        assert_eq!(Name::parse("anna@vvt").unwrap(), anna);
        assert_eq!(Name::parse("@anna:vvt").unwrap(), anna);
        assert_eq!(anna.id(), "@anna:vvt");
        for wrong in ["anna", "@anna", "Anna@vvt", "@:vvt", "a b@vvt"] {
            assert!(Name::parse(wrong).unwrap_err().to_string().contains("is no user"), "{wrong}");
        }
    }

    #[test]
    fn every_organisation_has_an_administrator_and_a_person() {
        let everybody: Vec<String> =
            Users::everybody(&Network::lab().unwrap()).iter().map(|(name, _)| name.id()).collect();
        assert_eq!(
            everybody,
            ["@admin:apotheek", "@anna:apotheek", "@admin:huisarts", "@bram:huisarts", "@admin:vvt", "@carla:vvt"]
        );
    }
}
