//! The federation policy: which servers may talk to those behind this proxy.

use std::{collections::HashSet, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    answer::Answer,
    http1::head::{Field, named},
    settings::{self, Unauthenticated, host_of, is_server_name},
    x_matrix::{self, XMatrix},
};
use crate::service::{
    failure::{Failure, Status},
    files,
    network::Network,
};

/// Who the members are now; shared by inbound requests and the egress.
pub struct Policy {
    settings: settings::Policy,
    /// `None` admits everybody.
    members: ArcSwap<Option<HashSet<String>>>,
    /// Tells those that were admitted once and for long.
    changed: watch::Sender<()>,
}

// === impl Policy ===

impl Policy {
    /// Reads the list of members.
    ///
    /// # Errors
    /// When the file cannot be read or holds what is not a server name.
    pub fn new(settings: settings::Policy) -> Result<Self, Failure> {
        let members = read_members(&settings)?;
        Ok(Self { settings, members: ArcSwap::new(Arc::new(members)), changed: watch::Sender::new(()) })
    }

    /// Reads the list again; gives the number of members when it changed. The old list stays when it cannot be read.
    ///
    /// # Errors
    /// As [`Policy::new`].
    pub fn reload(&self) -> Result<Option<usize>, Failure> {
        let members = read_members(&self.settings)?;
        if **self.members.load() == members {
            return Ok(None);
        }
        let count = members.as_ref().map_or(0, HashSet::len);
        self.members.store(Arc::new(members));
        self.changed.send_replace(());
        Ok(Some(count))
    }

    /// Sees every change of the list from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The file to watch.
    pub fn file(&self) -> Option<&Path> {
        self.settings.members_file.as_deref()
    }

    /// Whether a server belongs to the network.
    pub fn admits(&self, server: &str) -> bool {
        self.members.load().as_ref().as_ref().is_none_or(|members| members.contains(server))
    }

    /// Whether a host is that of a member, whose server name may also have a port.
    pub fn admits_host(&self, host: &str) -> bool {
        let members = self.members.load();
        members.as_ref().as_ref().is_none_or(|members| members.iter().any(|member| host_of(member) == host))
    }

    /// Judges a request between servers by its path, `/_matrix/key…` or `/_matrix/federation…`, and by what it says of
    /// its sender. Each `Authorization` must be one of X-Matrix: a homeserver may take one for it that this proxy does
    /// not (Synapse takes any value that begins so), and count the request as that sender's.
    ///
    /// # Errors
    /// The answer to a request that is not admitted.
    pub fn judge(&self, path: &str, fields: &[Field<'_>], asked: &str) -> Result<(), Answer> {
        if let Some(endpoint) = unauthenticated(path) {
            return if self.settings.closed.contains(&endpoint) {
                Err(Answer::forbidden("this network has closed this endpoint"))
            } else {
                Ok(())
            };
        }
        if self.members.load().is_none() {
            return Ok(());
        }
        let mut signed = false;
        for field in fields.iter().filter(|field| named(field, "authorization")) {
            let parameters = x_matrix::parameters(field.value)
                .ok_or_else(|| Answer::unauthorized("the request has an authorization that is not X-Matrix"))?;
            let header =
                XMatrix::parse(parameters).map_err(|malformed| Answer::unauthorized(&malformed.to_string()))?;
            if !self.admits(&header.origin) {
                return Err(Answer::forbidden(&format!("{} is not a member of this network", header.origin)));
            }
            if header.destination.is_some_and(|destination| destination != asked) {
                return Err(Answer::forbidden(&format!("the request is signed for another server than {asked}")));
            }
            signed = true;
        }
        if signed { Ok(()) } else { Err(Answer::unauthorized("the request is not signed: no X-Matrix authorization")) }
    }
}

/// The endpoint, if it is one that the specification leaves without authentication.
fn unauthenticated(path: &str) -> Option<Unauthenticated> {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "/_matrix/federation/v1/version" => Some(Unauthenticated::Version),
        "/_matrix/federation/v1/openid/userinfo" => Some(Unauthenticated::OpenidUserinfo),
        "/_matrix/federation/v1/3pid/onbind" => Some(Unauthenticated::ThirdPartyOnbind),
        _ if path == "/_matrix/key" || path.starts_with("/_matrix/key/") => Some(Unauthenticated::Keys),
        _ => None,
    }
}

fn read_members(settings: &settings::Policy) -> Result<Option<HashSet<String>>, Failure> {
    if settings.members.is_none() && settings.members_file.is_none() {
        return Ok(None);
    }
    let mut members: HashSet<String> = settings.members.iter().flatten().cloned().collect();
    if let Some(path) = &settings.members_file {
        let text = files::read_text(path, crate::service::settings::LIMIT)?;
        let name = path.display().to_string();
        members.extend(if path.extension().is_some_and(|extension| extension == "toml") {
            let network: Network = crate::service::settings::parse_toml(&text, &name)?;
            network.names().map(str::to_owned).collect()
        } else {
            parse_members(&text, &name)?
        });
    }
    Ok(Some(members))
}

/// One server name a line; `#` starts a comment.
fn parse_members(text: &str, name: &str) -> Result<Vec<String>, Failure> {
    let mut members = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let member = content.split('#').next().unwrap_or_default().trim();
        if member.is_empty() {
            continue;
        }
        if !is_server_name(member) {
            let place = format!("{name}:{}", line + 1);
            return Err(Failure::new(Status::Config, format!("{place}: {member:?} is not a server name")));
        }
        members.push(member.to_owned());
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(closed: &[Unauthenticated]) -> Policy {
        let members = Some(vec!["vvt".to_owned(), "huisarts".to_owned()]);
        Policy::new(settings::Policy { members, members_file: None, closed: closed.to_vec() }).unwrap()
    }

    fn judged(policy: &Policy, path: &str, headers: &[&str]) -> u16 {
        let fields: Vec<_> =
            headers.iter().map(|value| Field { name: "Authorization", value: value.as_bytes() }).collect();
        policy.judge(path, &fields, "vvt").map_or_else(|answer| answer.status.as_u16(), |()| 200)
    }

    const SEND: &str = "/_matrix/federation/v1/send/1";

    #[test]
    fn only_members_are_admitted_and_only_to_the_server_they_ask() {
        let policy = policy(&[]);
        let from = |origin: &str, destination: &str| {
            judged(&policy, SEND, &[&format!("X-Matrix origin={origin},destination={destination},key=k,sig=s")])
        };
        assert_eq!(from("huisarts", "vvt"), 200);
        assert_eq!(from("rogue", "vvt"), 403);
        assert_eq!(from("huisarts", "apotheek"), 403);
        assert_eq!(judged(&policy, SEND, &["X-Matrix origin=huisarts,key=k,sig=s"]), 200);
        assert_eq!(judged(&policy, SEND, &[]), 401);
        assert_eq!(judged(&policy, SEND, &["Bearer x"]), 401);
        let both = ["X-Matrix origin=huisarts,key=k,sig=s", "X-Matrix origin=rogue,key=k,sig=s"];
        assert_eq!(judged(&policy, SEND, &both), 403);
        for other in
            ["X-MatrixX origin=rogue,key=k,sig=s", "X-Matrix:origin=rogue", " X-Matrix origin=rogue", "Bearer x"]
        {
            assert_eq!(judged(&policy, SEND, &["X-Matrix origin=huisarts,key=k,sig=s", other]), 401, "{other}");
        }
    }

    #[test]
    fn what_needs_no_signature_is_open_unless_closed() {
        let paths = [
            ("/_matrix/key/v2/server", Unauthenticated::Keys),
            ("/_matrix/key/v2/server/ed25519:a", Unauthenticated::Keys),
            ("/_matrix/federation/v1/version", Unauthenticated::Version),
            ("/_matrix/federation/v1/openid/userinfo", Unauthenticated::OpenidUserinfo),
            ("/_matrix/federation/v1/3pid/onbind", Unauthenticated::ThirdPartyOnbind),
        ];
        for (path, endpoint) in paths {
            assert_eq!(judged(&policy(&[]), path, &[]), 200);
            assert_eq!(judged(&policy(&[endpoint]), path, &[]), 403);
        }
        assert_eq!(judged(&policy(&[]), "/_matrix/federation/v1/versions", &[]), 401);
    }

    #[test]
    fn a_changed_list_is_taken_over_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("members");
        std::fs::write(&path, "vvt # home care\n\n").unwrap();
        let settings = settings::Policy { members_file: Some(path.clone()), ..settings::Policy::default() };
        let policy = Policy::new(settings).unwrap();
        assert!(policy.admits("vvt") && !policy.admits("huisarts"));
        std::fs::write(&path, "vvt\nhuisarts").unwrap();
        assert_eq!(policy.reload().unwrap(), Some(2));
        std::fs::write(&path, "vvt\nhuis arts").unwrap();
        assert!(policy.reload().unwrap_err().to_string().ends_with("members:2: \"huis arts\" is not a server name"));
        assert!(policy.admits("huisarts"));
    }

    #[test]
    fn the_declaration_of_the_network_is_a_list_of_members() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("network.toml");
        std::fs::write(&path, crate::service::network::LAB).unwrap();
        let settings = settings::Policy { members_file: Some(path), ..settings::Policy::default() };
        assert!(Policy::new(settings).unwrap().admits("apotheek"));
    }
}
