//! What becomes known of people: a resource of theirs is new or has changed, and so is who takes part for them.

use std::sync::PoisonError;

use ruma::UserId;
use tracing::debug;

use super::{Done, Engine, Trouble, user_id, work};
use crate::{
    bridge::{
        identity::Instance,
        mapping::{
            logical,
            person::{self, Profile},
            thread,
        },
        store::{Change, Side},
    },
    fhir::{
        query::Query,
        resources::{Identifier, PractitionerRole, Resource, ResourceType},
    },
};

// === impl Engine ===

impl Engine {
    /// A person's resource is new or has changed: who is who, and the teams that they are in.
    pub(super) async fn apply_person(&self, payload: &str) -> Done {
        let resource = Resource::from_json(payload.as_bytes())?;
        let mut changes = self.know(&resource).await?;
        changes.extend(self.look_where_numbered(&resource).await?);
        for relative in self.relatives(&resource).await? {
            // Whoever borrows from them is somebody else now, too.
            let key = relative.key().map(|key| key.to_string()).unwrap_or_default();
            changes.push(Change::Soon(work(Side::Matrix, key.as_str(), "borrower", &key)?));
        }
        Ok(changes)
    }

    /// Somebody from whom a person borrows has changed, or the directory says something new of them.
    pub(super) async fn apply_borrower(&self, payload: &str) -> Done {
        let key: String = serde_json::from_str(payload)?;
        let Ok(person) = Instance::parse(&key) else { return Ok(Vec::new()) };
        match self.resource_of(&person).await? {
            Some(resource) => self.know(&resource).await,
            None if logical::number_of(&person).is_some() => {
                let matrix_id = self.somebody(&person).await?.profile.matrix_id;
                self.takes_part_as(key, matrix_id).await
            }
            None => Ok(Vec::new()),
        }
    }

    /// The places that name a person by number: only now is it known, or known no longer, who that is.
    async fn look_where_numbered(&self, resource: &Resource) -> Done {
        let identifiers = logical::identifiers(resource);
        let mut changes = Vec::new();
        let spellings = logical::spellings(&identifiers);
        for place in self.places_naming(&spellings).await? {
            changes.extend(self.look_again(&place)?);
        }
        if changes.is_empty() {
            changes = self.places_in_doubt(&spellings).await?;
        }
        for known in identifiers.iter().filter_map(logical::by_number).map(|known| known.to_string()) {
            // Until now only the directory knew them.
            if self.store.user_of(&known).await?.is_some() {
                changes.push(Change::LinkPerson { reference: known, user_id: None });
            }
        }
        Ok(changes)
    }

    /// Roles of a practitioner or of those who work for an organisation, and the practitioner of a role.
    async fn relatives(&self, resource: &Resource) -> Result<Vec<Resource>, Trouble> {
        let Some(key) = resource.key() else { return Ok(Vec::new()) };
        let parameter = match key.kind {
            ResourceType::Practitioner => "practitioner",
            ResourceType::Organization => "organization",
            ResourceType::PractitionerRole => {
                let role: PractitionerRole = resource.to()?;
                return match role.practitioner.as_ref().and_then(thread::instance) {
                    Some(practitioner) => Ok(self.resource_of(&practitioner).await?.into_iter().collect()),
                    None => Ok(Vec::new()),
                };
            }
            _ => return Ok(Vec::new()),
        };
        let query = Query::new().with(parameter, key.to_string());
        match self.all(ResourceType::PractitionerRole, &query).await {
            // A server that knows no roles has none.
            Err(Trouble::Refused(_)) => Ok(Vec::new()),
            found => found,
        }
    }

    /// Takes note of who somebody is: their name, and the user that takes part for them.
    async fn know(&self, resource: &Resource) -> Done {
        let Some(person) = resource.key().and_then(|key| Instance::parse(&key.to_string()).ok()) else {
            return Ok(Vec::new());
        };
        let merged = person::replaced_by(resource).is_some();
        let mut profile = self.listed(&person, self.profile_in(resource).await?).await?;
        if merged {
            // Whoever has the user now is the one that remains.
            profile.matrix_id = None;
        }
        self.rename(&person, &profile).await?;
        let reference = person.to_string();
        if self.store.user_of(&reference).await? == profile.matrix_id && !merged {
            return Ok(Vec::new());
        }
        self.takes_part_as(reference, profile.matrix_id).await
    }

    /// The user that takes part for somebody from now on, and a look at the teams and conversations that they are in:
    /// these have another member now.
    pub(super) async fn takes_part_as(&self, reference: String, user_id: Option<String>) -> Done {
        debug!("somebody's Matrix id is new or has changed");
        let before = self.store.user_of(&reference).await?.filter(|before| user_id.as_ref() != Some(before));
        let former = before.map(|before| Change::Cursor { name: former(&before), value: reference.clone() });
        let mut changes: Vec<Change> = former.into_iter().collect();
        changes.push(Change::LinkPerson { reference: reference.clone(), user_id });
        let identifiers: Vec<Identifier> = match Instance::parse(&reference) {
            Ok(person) => match (logical::number_of(&person), self.resource_of(&person).await?) {
                (Some(number), None) => vec![number],
                (_, Some(resource)) => logical::identifiers(&resource),
                (None, None) => Vec::new(),
            },
            Err(_) => Vec::new(),
        };
        for place in self.places_naming(&logical::spellings(&identifiers)).await? {
            changes.extend(self.look_again(&place)?);
        }
        for (kind, parameter) in [
            (ResourceType::CareTeam, "participant"),
            (ResourceType::CommunicationRequest, "recipient"),
            (ResourceType::CommunicationRequest, "requester"),
            (ResourceType::CommunicationRequest, "sender"),
        ] {
            let query = Query::new().with(parameter, reference.clone());
            match self.all(kind, &query).await {
                Ok(places) => {
                    for place in places {
                        changes.extend(self.look_again(&place)?);
                    }
                }
                // There are servers that search by fewer parameters.
                Err(Trouble::Refused(reason)) => debug!(%kind, parameter, reason, "no search by reference"),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(changes)
    }

    /// Whether a user took part for somebody until FHIR named another one, or none: then it is nobody's any more, and
    /// no guest of somebody's either.
    pub(super) async fn is_former(&self, user: &UserId) -> Result<bool, Trouble> {
        Ok(self.store.person_of(user.as_str()).await?.is_none()
            && self.store.cursor(&former(user.as_str())).await?.is_some())
    }

    /// Somebody's ghost is called as they are, if there is one.
    async fn rename(&self, person: &Instance, profile: &Profile) -> Result<(), Trouble> {
        let ghost = user_id(&self.names.ghost(person))?;
        // Forgotten, so that it is said anew: another replica may have called them otherwise since.
        let in_use = self.named.lock().unwrap_or_else(PoisonError::into_inner).remove(&ghost).is_some();
        // This process may not have met a ghost that an earlier one made.
        if in_use || self.homeserver.bot().profile(&ghost).await?.is_some() {
            self.ghost(person, ghost, profile).await?;
        }
        Ok(())
    }
}

/// Under this name the store keeps for whom a user took part.
fn former(user: &str) -> String {
    format!("former {user}")
}
