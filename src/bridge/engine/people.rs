//! Who somebody is on the other side.

use std::sync::PoisonError;

use ruma::OwnedUserId;
use tracing::debug;

use super::{Done, Engine, Trouble, user_id, work};
use crate::{
    bridge::{
        identity::{Instance, Kind},
        mapping::{
            person::{self, Profile},
            thread,
        },
        store::{Change, Side},
    },
    fhir::{
        id::Key,
        query::Query,
        resources::{PractitionerRole, Resource, ResourceType},
        server::FhirError,
    },
    matrix::Intent,
};

/// A person as Matrix knows them.
#[derive(Clone, Debug)]
pub(super) struct Somebody {
    /// Who takes part: their own user, or their ghost.
    pub(super) user_id: OwnedUserId,
    /// Whether that is a ghost.
    pub(super) is_ghost: bool,
    /// What their resource says.
    pub(super) profile: Profile,
}

// === impl Engine ===

impl Engine {
    /// The resource of an instance; `None` when there is none, or the server does not know the type.
    pub(super) async fn resource_of(&self, instance: &Instance) -> Result<Option<Resource>, Trouble> {
        let Some(Key { kind, id, .. }) = Key::parse(&instance.to_string()) else { return Ok(None) };
        match self.fhir.read(kind, &id).await {
            Ok(resource) => Ok(Some(resource)),
            Err(FhirError::NotFound(_) | FhirError::NotSupported(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is such a person.
    pub(super) async fn exists(&self, person: &Instance) -> Result<bool, Trouble> {
        Ok(self.resource_of(person).await?.is_some())
    }

    /// What the resource of a person says; a practitioner's role borrows from the practitioner.
    async fn profile_of(&self, person: &Instance) -> Result<Profile, Trouble> {
        let Some(resource) = self.resource_of(person).await? else { return Ok(Profile::default()) };
        let own = person::profile(&resource);
        if person.kind() != Kind::PractitionerRole {
            return Ok(own);
        }
        let role: PractitionerRole = resource.to()?;
        let Some(practitioner) = role.practitioner.as_ref().and_then(thread::instance) else { return Ok(own) };
        let of_practitioner =
            self.resource_of(&practitioner).await?.map(|found| person::profile(&found)).unwrap_or_default();
        Ok(Profile {
            matrix_id: own.matrix_id.or(of_practitioner.matrix_id),
            name: own.name.or(of_practitioner.name),
            uzi: own.uzi.or(of_practitioner.uzi),
        })
    }

    /// The user that takes part for a person: their own, or a ghost.
    pub(super) async fn somebody(&self, person: &Instance) -> Result<Somebody, Trouble> {
        let profile = self.profile_of(person).await?;
        let own = profile.matrix_id.as_deref().and_then(|own| OwnedUserId::try_from(own).ok());
        match own {
            Some(user_id) => Ok(Somebody { is_ghost: self.homeserver.controls(&user_id), user_id, profile }),
            None => Ok(Somebody { user_id: user_id(&self.names.ghost(person))?, is_ghost: true, profile }),
        }
    }

    /// The user that speaks for a person: one that this service controls, with the person's name.
    ///
    /// Somebody with a user of their own still has a ghost that says in Matrix what they wrote in FHIR: the bridge
    /// cannot speak as a user who is not its own.
    pub(super) async fn speaker(&self, person: &Instance) -> Result<Intent, Trouble> {
        let somebody = self.somebody(person).await?;
        let speaker = if somebody.is_ghost { somebody.user_id } else { user_id(&self.names.ghost(person))? };
        self.ghost(person, speaker, &somebody.profile).await
    }

    /// A ghost that exists and is called as its person is.
    pub(super) async fn ghost(
        &self,
        person: &Instance,
        user: OwnedUserId,
        profile: &Profile,
    ) -> Result<Intent, Trouble> {
        let intent = self.homeserver.intent(&user)?;
        let name = match person.kind() {
            // A member's name is room state; a patient's must not be there.
            Kind::Patient => self.settings.patient_label.clone(),
            kind => profile.name.clone().unwrap_or_else(|| kind.name().to_owned()),
        };
        let known = self.named.lock().unwrap_or_else(PoisonError::into_inner).get(&user) == Some(&name);
        if !known {
            intent.register().await?;
            intent.set_display_name(&name).await?;
            self.named.lock().unwrap_or_else(PoisonError::into_inner).insert(user, name);
        }
        Ok(intent)
    }

    /// The person that a user is: a ghost's by its name, others by what FHIR says of them.
    pub(super) async fn person_of(&self, user: &str) -> Result<Option<Instance>, Trouble> {
        if let Some(person) = self.names.person_of(user) {
            return Ok(Some(person));
        }
        let reference = self.store.person_of(user).await?;
        Ok(reference.and_then(|reference| Instance::parse(&reference).ok()))
    }

    /// A person's resource is new or has changed: who is who, and the teams that they are in.
    pub(super) async fn apply_person(&self, payload: &str) -> Done {
        let resource = Resource::from_json(payload.as_bytes())?;
        let Some(person) = resource.key().and_then(|key| Instance::parse(&key.to_string()).ok()) else {
            return Ok(Vec::new());
        };
        let profile = person::profile(&resource);
        let reference = person.to_string();
        let before = self.store.user_of(&reference).await?;
        if self.named.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&user_id(&self.names.ghost(&person))?)
        {
            self.ghost(&person, user_id(&self.names.ghost(&person))?, &profile).await?;
        }
        if before == profile.matrix_id {
            return Ok(Vec::new());
        }
        debug!("somebody's Matrix id is new or has changed");
        let mut changes = vec![Change::LinkPerson { reference: reference.clone(), user_id: profile.matrix_id }];
        // The teams and conversations that they are in have another member now.
        for (kind, parameter) in
            [(ResourceType::CareTeam, "participant"), (ResourceType::CommunicationRequest, "recipient")]
        {
            let query = Query::new().with(parameter, reference.clone());
            for place in self.all(kind, &query).await? {
                changes.extend(self.look_again(&place)?);
            }
        }
        Ok(changes)
    }

    /// Work that looks at a team or conversation again.
    pub(super) fn look_again(&self, place: &Resource) -> Result<Option<Change>, Trouble> {
        let Some(key) = place.key() else { return Ok(None) };
        let key = key.to_string();
        Ok(Some(Change::Soon(work(Side::Matrix, key.as_str(), "members", &key)?)))
    }

    /// Everything that matches, page by page.
    pub(super) async fn all(&self, kind: ResourceType, query: &Query) -> Result<Vec<Resource>, Trouble> {
        let mut page = self.fhir.search(kind, query).await?;
        let mut found = Vec::new();
        loop {
            found.extend(page.matches().cloned());
            match page.next {
                Some(next) => page = self.fhir.follow(&next).await?,
                None => return Ok(found),
            }
        }
    }
}
