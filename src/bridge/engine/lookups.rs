//! What people can look up from a Matrix client: third-party users and locations of the protocol `fhir`.
//!
//! Professionals and organisations are in the care directory; patients and those close to them are in none, so nobody
//! finds them here. A team or conversation is found by its FHIR id, which says nothing of the patient.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use ruma::{
    OwnedRoomAliasId, OwnedUserId, RoomAliasId, UserId,
    thirdparty::{FieldTypeInit, Location, Protocol, ProtocolInit, ProtocolInstanceInit, User},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Engine, Trouble, work};
use crate::{
    bridge::{
        directory::{Directory, Wanted},
        identity::{Instance, Kind},
        mapping::{listing::Listing, thread},
        store::{Change, Side},
    },
    matrix::server::Fields,
};

/// The name of the third-party network.
pub(super) const PROTOCOL: &str = "fhir";
/// By what locations are found: the id of the resource.
const LOCATION_FIELDS: [(&str, Kind); 2] =
    [("careteam", Kind::CareTeam), ("communicationrequest", Kind::CommunicationRequest)];
/// By what people are found.
const USER_FIELDS: [&str; 3] = ["uzi", "ura", "name"];
/// Shortest beginning of a name: fewer letters would list the directory.
const SHORTEST_NAME: usize = 2;
/// People that are shown at most.
const MOST: usize = 50;

/// What the network is called, and by what it is searched.
pub(super) fn protocol(server: &str) -> Protocol {
    let field = |regexp: &str, placeholder: &str| {
        FieldTypeInit { regexp: regexp.to_owned(), placeholder: placeholder.to_owned() }.into()
    };
    let id = r"[A-Za-z0-9.\-]{1,64}";
    let field_types = [
        ("uzi", field("[0-9]{1,9}", "900012345")),
        ("ura", field("[0-9]{1,8}", "00001234")),
        ("name", field(".{2,}", "Jansen")),
        ("careteam", field(id, "netwerk-1")),
        ("communicationrequest", field(id, "gesprek-1")),
    ];
    let instance = ProtocolInstanceInit {
        desc: "Zorgverleners en gesprekken".to_owned(),
        fields: BTreeMap::new(),
        network_id: server.to_owned(),
    };
    let init = ProtocolInit {
        user_fields: USER_FIELDS.map(str::to_owned).to_vec(),
        location_fields: LOCATION_FIELDS.map(|(field, _)| field.to_owned()).to_vec(),
        icon: String::new(),
        field_types: field_types.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect(),
        instances: vec![instance.into()],
    };
    init.into()
}

// === impl Engine ===

impl Engine {
    /// Professionals and organisations by the fields of a look-up, each user once.
    pub(super) async fn look_up_users(&self, fields: &Fields) -> Result<Vec<User>, Trouble> {
        let wanted = wanted(fields);
        let mut found: BTreeMap<OwnedUserId, User> = BTreeMap::new();
        for (user, listing) in self.listed_users(&wanted).await? {
            found.entry(user.clone()).or_insert_with(|| User::new(user, PROTOCOL.to_owned(), fields_of(&listing)));
        }
        Ok(found.into_values().take(MOST).collect())
    }

    async fn listed_users(&self, wanted: &Wanted) -> Result<Vec<(OwnedUserId, Listing)>, Trouble> {
        let mut users = Vec::new();
        let listings = self.directory.find(wanted).await.map_err(|error| self.directory_trouble(error))?;
        for listing in listings.iter() {
            let user = listing.matrix_id.as_deref().and_then(|user| OwnedUserId::try_from(user).ok());
            users.extend(user.map(|user| (user, listing.clone())));
        }
        // Who is known here and has no user of their own is reached through their ghost.
        let here = Directory::own(std::sync::Arc::clone(&self.fhir));
        for listing in here.find(wanted).await?.iter() {
            let Ok(person) = Instance::parse(&listing.resource) else { continue };
            users.push((self.somebody(&person).await?.user_id, listing.clone()));
        }
        Ok(users)
    }

    /// Spaces and rooms by the ids of their resources.
    pub(super) async fn look_up_locations(&self, fields: &Fields) -> Result<Vec<Location>, Trouble> {
        let mut found = Vec::new();
        for (field, kind) in LOCATION_FIELDS {
            let Some(place) = fields.get(field).and_then(|id| Instance::new(kind, id).ok()) else { continue };
            if self.store.room_of(&place.to_string()).await?.is_some() {
                found.extend(self.location(&place));
            }
        }
        Ok(found)
    }

    /// What stands behind an alias.
    pub(super) async fn look_behind_alias(&self, alias: &RoomAliasId) -> Result<Vec<Location>, Trouble> {
        let Some(place) = self.names.place_of(alias.as_str()) else { return Ok(Vec::new()) };
        let known = self.store.room_of(&place.to_string()).await?.is_some();
        Ok(known.then(|| self.location(&place)).flatten().into_iter().collect())
    }

    fn location(&self, place: &Instance) -> Option<Location> {
        let (field, _) = LOCATION_FIELDS.into_iter().find(|(_, kind)| *kind == place.kind())?;
        let alias = OwnedRoomAliasId::try_from(self.names.alias(place)).ok()?;
        let fields = BTreeMap::from([(field.to_owned(), place.id().to_owned())]);
        Some(Location::new(alias, PROTOCOL.to_owned(), fields))
    }

    /// Who a user is in the care directory; nobody for patients and those close to them.
    pub(super) async fn look_behind_user(&self, user: &UserId) -> Result<Vec<User>, Trouble> {
        let Some(person) = self.person_of(user.as_str()).await? else { return Ok(Vec::new()) };
        if !matches!(person.kind(), Kind::Practitioner | Kind::PractitionerRole | Kind::Organization) {
            return Ok(Vec::new());
        }
        let profile = self.somebody(&person).await?.profile;
        let listing = Listing { name: profile.name, uzi: profile.uzi, ura: profile.ura, ..Listing::default() };
        Ok(vec![User::new(user.to_owned(), PROTOCOL.to_owned(), fields_of(&listing))])
    }

    /// Looks from time to time whether a directory elsewhere says something new of those who take part, until `stop`.
    pub async fn watch_directory(&self, every: Duration, stop: CancellationToken) {
        if !self.directory.is_elsewhere() {
            return;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            match self.look_at_directory(&stop).await {
                Ok(0) => {}
                Ok(people) => info!(people, "the care directory says something new of people who take part"),
                Err(trouble) => warn!(%trouble, "the care directory cannot be looked at again now"),
            }
        }
    }

    /// Asks the directory after everybody who takes part anywhere; how many it says something new of.
    async fn look_at_directory(&self, stop: &CancellationToken) -> Result<usize, Trouble> {
        let mut seen = HashSet::new();
        let mut changes: HashMap<String, Change> = HashMap::new();
        for link in self.store.rooms().await? {
            if stop.is_cancelled() {
                break;
            }
            let Ok(place) = Instance::parse(&link.place) else { continue };
            let Some(resource) = self.resource_of(&place).await? else { continue };
            let people: Vec<Instance> = match place.kind() {
                Kind::CareTeam => {
                    let members = thread::members(&self.team_in(&resource).await?, &[], crate::bridge::store::now());
                    members.into_iter().map(|member| member.person).collect()
                }
                _ => thread::people(&self.request_in(&resource).await?),
            };
            for person in people.into_iter().filter(|person| seen.insert(person.clone())) {
                let matrix_id = self.somebody(&person).await?.profile.matrix_id;
                let key = person.to_string();
                if matrix_id != self.store.user_of(&key).await? {
                    let again = work(Side::Matrix, key.as_str(), "borrower", &key)?;
                    changes.insert(key, Change::Soon(again));
                }
            }
        }
        let people = changes.len();
        self.commit(changes.into_values().collect()).await?;
        Ok(people)
    }
}

/// Whom a look-up is about. What is empty was not filled in; too short a name finds nobody.
fn wanted(fields: &Fields) -> Wanted {
    let field = |name: &str| fields.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let [uzi, ura, name] = USER_FIELDS.map(field);
    if name.as_ref().is_some_and(|name| name.chars().count() < SHORTEST_NAME) {
        return Wanted::default();
    }
    Wanted { uzi, ura, name }
}

fn fields_of(listing: &Listing) -> Fields {
    let known =
        [("uzi", &listing.uzi), ("ura", &listing.ura), ("name", &listing.name), ("homeserver", &listing.homeserver)];
    known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_needs_something_to_go_by() {
        let fields = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Fields>()
        };
        assert_eq!(wanted(&fields(&[("uzi", " 900 "), ("other", "x")])), Wanted::professional("900"));
        assert_eq!(wanted(&fields(&[("name", "J"), ("ura", "1")])), Wanted::default());
        assert_eq!(wanted(&fields(&[("name", "")])), Wanted::default());
    }

    #[test]
    fn every_field_of_the_protocol_has_a_type() {
        let protocol = protocol("vvt");
        for field in protocol.user_fields.iter().chain(&protocol.location_fields) {
            assert!(protocol.field_types.contains_key(field), "{field}");
        }
    }
}
