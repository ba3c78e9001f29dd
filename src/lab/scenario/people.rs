//! A person on each server, for this scenario only.

use futures_util::future::{join_all, try_join_all};

use super::{
    recorder::{Abandoned, Recorder, Trouble},
    target::{Access, Reached, ReachedServer},
};
use crate::{lab::client::Session, service::secrets::Secret};

/// The server whose person opens the room, where the network has it: the organisation at home with the client.
const HOST: &str = "vvt";

/// Somebody who takes part.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) session: Session,
    password: Secret,
}

/// All who take part: the one who opens the room, and the others.
#[derive(Debug)]
pub(super) struct People {
    pub(super) host: Person,
    pub(super) guests: Vec<Person>,
    /// Random letters that make the names of this run its own.
    pub(super) run: String,
}

// === impl Person ===

impl Person {
    pub(super) fn user(&self) -> &str {
        &self.session.user
    }

    pub(super) fn server(&self) -> &str {
        &self.session.server().name
    }
}

// === impl People ===

impl People {
    /// Everybody, the host first.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Person> {
        std::iter::once(&mut self.host).chain(&mut self.guests)
    }

    /// Everybody, the host first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Person> {
        std::iter::once(&self.host).chain(&self.guests)
    }

    /// The guests' servers, for the report.
    pub(super) fn guests_at(&self) -> String {
        self.guests.iter().map(Person::server).collect::<Vec<_>>().join(", ")
    }
}

pub(super) async fn chapter(recorder: &mut Recorder, network: &Reached) -> Result<People, Abandoned> {
    recorder.chapter("People");
    let all = network.names().join(", ");
    let run = Secret::random(3).map(|random| random.expose().to_owned()).unwrap_or_default();
    let name = format!("verify-{run}");
    let how = if network.servers.iter().all(|server| matches!(server.access, Access::Shared(_))) {
        "A user is made on each server with its shared secret"
    } else {
        "A user is made on each server by its administrator"
    };
    let passwords = recorder.step(how, &all, make(network, &name)).await?;
    let mut people = recorder.step("Each logs in with a password", &all, log_in(network, &name, passwords)).await?;
    let index = people.iter().position(|person| person.server() == HOST).unwrap_or(people.len().saturating_sub(1));
    let host = people.remove(index);
    Ok(People { host, guests: people, run })
}

async fn make(network: &Reached, name: &str) -> Result<(Vec<Secret>, String), Trouble> {
    let made = network.servers.iter().map(async |server| {
        let password = Secret::random(12)?;
        make_one(server, name, &password).await?;
        Ok::<_, Trouble>(password)
    });
    Ok((try_join_all(made).await?, name.to_owned()))
}

async fn make_one(server: &ReachedServer, name: &str, password: &Secret) -> Result<(), Trouble> {
    match &server.access {
        Access::Shared(shared) => server.admin.register(name, password, false, shared).await?,
        Access::Token(token) => {
            let user = format!("@{name}:{}", server.public.name);
            server.admin.create_user(&user, password, false, token).await?;
        }
    }
    Ok(())
}

async fn log_in(network: &Reached, name: &str, passwords: Vec<Secret>) -> Result<(Vec<Person>, String), Trouble> {
    let people = network.servers.iter().zip(passwords).map(async |(server, password)| {
        let session = server.public.log_in(name, &password).await?;
        Ok::<_, Trouble>(Person { session, password })
    });
    Ok((try_join_all(people).await?, String::new()))
}

/// Closes the accounts again, so that runs leave no users behind.
pub(super) async fn leave(recorder: &mut Recorder, people: People) {
    recorder.chapter("Good-bye");
    let all = people.all().map(Person::server).collect::<Vec<_>>().join(", ");
    let closing = async {
        let closed = join_all(people.all().map(|person| person.session.deactivate(&person.password))).await;
        closed.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(((), String::new()))
    };
    _ = recorder.step("The users of this run close their accounts", all, closing).await;
}
