//! Who somebody is on the other side.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::PoisonError,
};

use ruma::{OwnedMxcUri, OwnedUserId};
use tracing::warn;

use super::{Engine, Trouble, user_id, work};
use crate::{
    bridge::{
        directory::Wanted,
        identity::{Instance, Kind},
        mapping::{
            listing, logical,
            person::{self, Profile},
            thread,
        },
        store::{Change, Side},
    },
    fhir::{
        id::Key,
        query::Query,
        resources::{PractitionerRole, Reference, Resource, ResourceType},
        server::FhirError,
    },
    matrix::Intent,
};

/// Records that were merged one into the other, followed at most.
const MERGES: usize = 8;

/// Ghosts that can be named at the same time.
pub(super) const NAMING: usize = 64;

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

    /// The person who a person is now: a patient whose record was merged is the one that it was replaced by.
    pub(super) async fn survivor(&self, person: &Instance) -> Result<Instance, Trouble> {
        let mut survivor = person.clone();
        for _ in 0..MERGES {
            if survivor.kind() != Kind::Patient {
                break;
            }
            let Some(resource) = self.resource_of(&survivor).await? else { break };
            match person::replaced_by(&resource) {
                Some(other) => survivor = other,
                None => break,
            }
        }
        Ok(survivor)
    }

    /// What the bridge's own FHIR server says of a person.
    async fn own_profile(&self, person: &Instance) -> Result<Profile, Trouble> {
        match self.resource_of(person).await? {
            Some(resource) => self.profile_in(&resource).await,
            None => Ok(Self::profile_by_number(person)),
        }
    }

    /// What the resource of a person says; a practitioner's role borrows from practitioner and organisation.
    pub(super) async fn profile_in(&self, resource: &Resource) -> Result<Profile, Trouble> {
        let own = person::profile(resource);
        let Ok(role) = resource.to::<PractitionerRole>() else { return Ok(own) };
        let of_practitioner = self.borrowed(role.practitioner.as_ref()).await?;
        let of_organization = self.borrowed(role.organization.as_ref()).await?;
        Ok(Profile {
            matrix_id: own.matrix_id.or(of_practitioner.matrix_id),
            name: own.name.or(of_practitioner.name),
            uzi: own.uzi.or(of_practitioner.uzi),
            ura: own.ura.or(of_organization.ura),
        })
    }

    /// The profile behind a reference, which may be no more than a number.
    async fn borrowed(&self, reference: Option<&Reference>) -> Result<Profile, Trouble> {
        let Some(reference) = reference else { return Ok(Profile::default()) };
        if let Some(instance) = thread::instance(reference)
            && let Some(resource) = self.resource_of(&instance).await?
        {
            return Ok(person::profile(&resource));
        }
        Ok(person::numbers(reference.identifier.as_deref()))
    }

    /// A profile with the Matrix id that the care directory knows, where there is none yet.
    pub(super) async fn listed(&self, person: &Instance, mut profile: Profile) -> Result<Profile, Trouble> {
        if profile.matrix_id.is_some() {
            return Ok(profile);
        }
        let wanted = match (person.kind(), &profile.uzi, &profile.ura) {
            (Kind::Practitioner | Kind::PractitionerRole, Some(uzi), _) => Wanted::professional(uzi),
            (Kind::Organization, _, Some(ura)) => Wanted::organization(ura),
            _ => return Ok(profile),
        };
        let found = self.directory.find(&wanted).await.map_err(|error| self.directory_trouble(error))?;
        let of_kind = match person.kind() {
            Kind::Organization => found.iter().find(|listing| listing.resource.starts_with("Organization/")),
            _ => listing::best(&found, profile.ura.as_deref()),
        };
        if let Some(listing) = of_kind {
            profile.matrix_id = listing.matrix_id.clone();
            profile.name = profile.name.or_else(|| listing.name.clone());
        }
        Ok(profile)
    }

    /// What a directory that does not answer means: the work waits for it, and nothing else does.
    pub(super) fn directory_trouble(&self, error: FhirError) -> Trouble {
        if !self.directory.is_elsewhere() {
            return error.into();
        }
        let reason = if error.is_temporary() { "does not answer" } else { "refuses the question, or lets nobody in" };
        Trouble::Busy { reason: format!("the care directory {reason}"), retry_after: error.retry_after() }
    }

    /// The user that takes part for a person: their own, or a ghost.
    pub(super) async fn somebody(&self, person: &Instance) -> Result<Somebody, Trouble> {
        let profile = self.listed(person, self.own_profile(person).await?).await?;
        self.user_for(person, profile)
    }

    fn user_for(&self, person: &Instance, profile: Profile) -> Result<Somebody, Trouble> {
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
        let person = &self.survivor(person).await?;
        // Whether the directory knows a user of theirs does not matter here, nor whether it answers.
        let mut profile = self.own_profile(person).await?;
        if logical::number_of(person).is_some() {
            // Nobody else knows the name.
            profile = self.listed(person, profile.clone()).await.unwrap_or(profile);
        }
        let somebody = self.user_for(person, profile)?;
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
        if profile.name.is_none() && logical::number_of(person).is_some() && self.has_name(&user) {
            // The directory is away: their name stands.
            return Ok(intent);
        }
        let is_called = |name: &str| {
            self.named.lock().unwrap_or_else(PoisonError::into_inner).get(&user).is_some_and(|known| known == name)
        };
        if is_called(&self.name_of(person, profile.name.clone())) {
            return Ok(intent);
        }
        // One at a time, and by what FHIR says now: whoever read it before a change must not undo the change.
        let _naming = self.naming[slot(&user)].lock().await;
        let name = self.name_of(person, self.own_profile(person).await?.name.or_else(|| profile.name.clone()));
        if !is_called(&name) {
            intent.register().await?;
            intent.set_display_name(&name).await?;
            self.named.lock().unwrap_or_else(PoisonError::into_inner).insert(user, name);
        }
        Ok(intent)
    }

    /// The bot shows itself as the settings say. Nothing depends on it: what fails is tried when the homeserver comes
    /// again.
    pub(super) async fn introduce_bot(&self) {
        let (name, avatar) = (self.settings.bot_name.trim(), self.settings.bot_avatar.as_deref());
        let bot = self.homeserver.bot();
        let introduced = async {
            if !name.is_empty() || avatar.is_some() {
                bot.register().await?;
            }
            if !name.is_empty() {
                bot.set_display_name(name).await?;
            }
            match avatar {
                Some(avatar) => bot.set_avatar(OwnedMxcUri::from(avatar)).await,
                None => Ok(()),
            }
        };
        if let Err(error) = introduced.await {
            warn!(%error, "the bot's name or picture cannot be set now");
        }
    }

    fn has_name(&self, user: &OwnedUserId) -> bool {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).contains_key(user)
    }

    /// What a ghost is called in Matrix.
    fn name_of(&self, person: &Instance, name: Option<String>) -> String {
        match person.kind() {
            // A member's name is room state; a patient's must not be there.
            Kind::Patient => self.settings.patient_label.clone(),
            kind => name.as_deref().and_then(person::display_name).unwrap_or_else(|| kind.name().to_owned()),
        }
    }

    /// The person that a user is: a ghost's by its name, others by what FHIR says of them.
    pub(super) async fn person_of(&self, user: &str) -> Result<Option<Instance>, Trouble> {
        if let Some(person) = self.names.person_of(user) {
            return Ok(Some(person));
        }
        let reference = self.store.person_of(user).await?;
        Ok(reference.and_then(|reference| Instance::parse(&reference).ok()))
    }

    /// Everybody that a user is: one person, or a professional in several roles.
    pub(super) async fn persons_of(&self, user: &str) -> Result<Vec<Instance>, Trouble> {
        if let Some(person) = self.names.person_of(user) {
            return Ok(vec![person]);
        }
        let references = self.store.persons_of(user).await?;
        Ok(references.iter().filter_map(|reference| Instance::parse(reference).ok()).collect())
    }

    /// The person that a user is in a conversation: of several the one who takes part in it.
    pub(super) async fn person_in(&self, request: &Instance, user: &str) -> Result<Option<Instance>, Trouble> {
        let mut persons = self.persons_of(user).await?;
        if persons.len() > 1
            && let Some(resource) = self.resource_of(request).await?
        {
            let members = self.circle(&resource.to()?).await?.members;
            let takes_part = |person: &Instance| members.iter().any(|member| member.person == *person);
            if let Some(present) = persons.iter().position(takes_part) {
                return Ok(Some(persons.swap_remove(present)));
            }
        }
        Ok(persons.into_iter().next())
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

/// Whose turn it is to name a user: always the same one for the same user.
fn slot(user: &OwnedUserId) -> usize {
    let mut hasher = DefaultHasher::new();
    user.hash(&mut hasher);
    usize::try_from(hasher.finish() % NAMING as u64).unwrap_or_default()
}
