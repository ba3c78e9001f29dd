//! The care directory: who has which Matrix id, by UZI and URA number.
//!
//! It is read as the profile mCSD has it: Practitioner, PractitionerRole, Organization and Endpoint. It may be the
//! bridge's own FHIR server or one elsewhere; answers of one elsewhere are remembered for a while.

mod cache;
mod settings;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use cache::Cache;
pub use settings::Settings;

use super::{
    mapping::{
        listing::{self, Employer, Listing},
        person,
    },
    store::now,
};
use crate::{
    fhir::{
        client::Client,
        id::Key,
        query::{Query, escape},
        resources::{Endpoint, Organization, PractitionerRole, Reference, Resource, ResourceType},
        server::{FhirError, FhirServer},
    },
    service::failure::Failure,
};

/// Resources that one question may find; more are cut off.
const MOST: usize = 50;
/// Organisations above one that are asked for what it does not say itself.
const LEVELS: usize = 4;

/// Whom somebody looks for. What is given must all hold; with nothing given, nobody is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Number of a professional's card.
    pub uzi: Option<String>,
    /// Number of an organisation.
    pub ura: Option<String>,
    /// The beginning of a name.
    pub name: Option<String>,
}

/// A care directory.
pub struct Directory {
    server: Arc<dyn FhirServer>,
    /// For one elsewhere.
    cache: Option<Cache<Wanted, Vec<Listing>>>,
}

// === impl Wanted ===

impl Wanted {
    /// The professional with a card.
    pub fn professional(uzi: &str) -> Self {
        Self { uzi: Some(uzi.to_owned()), ..Self::default() }
    }

    /// The organisation with a number, and those who work there.
    pub fn organization(ura: &str) -> Self {
        Self { ura: Some(ura.to_owned()), ..Self::default() }
    }
}

// === impl Directory ===

impl Directory {
    /// The bridge's own FHIR server as the directory. Nothing is remembered: what changes there counts at once.
    pub fn own(server: Arc<dyn FhirServer>) -> Self {
        Self { server, cache: None }
    }

    /// The directory elsewhere that the settings name; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings are wrong, or a file that they name.
    pub fn elsewhere(settings: &Settings) -> Result<Option<Self>, Failure> {
        let Some(server) = settings.server() else { return Ok(None) };
        let cache = Cache::new(settings.cached_for(), settings.cache_entries);
        Ok(Some(Self { server: Arc::new(Client::new(server)?), cache: Some(cache) }))
    }

    /// Whether it is another server than the bridge's own.
    pub fn is_elsewhere(&self) -> bool {
        self.cache.is_some()
    }

    /// Everybody who is looked for, in each place of work: the organisation first, then people by their ids.
    ///
    /// # Errors
    /// When the directory does not answer. One that does not know a type of resource has none of them.
    pub async fn find(&self, wanted: &Wanted) -> Result<Arc<Vec<Listing>>, FhirError> {
        if let Some(known) = self.cache.as_ref().and_then(|cache| cache.get(wanted, Instant::now())) {
            return Ok(known);
        }
        let mut found = self.ask(wanted).await?;
        let same = |wanted: &Option<String>, listed: &Option<String>| wanted.is_none() || wanted == listed;
        found.retain(|listing| same(&wanted.uzi, &listing.uzi) && same(&wanted.ura, &listing.ura));
        let found = Arc::new(found);
        if let Some(cache) = &self.cache {
            cache.put(wanted.clone(), Arc::clone(&found), Instant::now());
        }
        Ok(found)
    }

    async fn ask(&self, wanted: &Wanted) -> Result<Vec<Listing>, FhirError> {
        if let Some(uzi) = &wanted.uzi {
            let mut query = Query::identifier(person::UZI, uzi);
            if let Some(name) = &wanted.name {
                query = query.with("name", escape(name));
            }
            return self.practitioners(self.search(ResourceType::Practitioner, query).await?).await;
        }
        match (&wanted.name, &wanted.ura) {
            (Some(name), _) => {
                let query = Query::new().with("name", escape(name));
                let mut found =
                    self.organizations(self.search(ResourceType::Organization, query.clone()).await?).await?;
                found.extend(self.practitioners(self.search(ResourceType::Practitioner, query).await?).await?);
                Ok(found)
            }
            (None, Some(ura)) => self.at(ura).await,
            (None, None) => Ok(Vec::new()),
        }
    }

    /// An organisation and those who work there.
    async fn at(&self, ura: &str) -> Result<Vec<Listing>, FhirError> {
        let organizations = self.search(ResourceType::Organization, Query::identifier(person::URA, ura)).await?;
        let Some(places) = keys(&organizations) else { return Ok(Vec::new()) };
        let roles = self.search(ResourceType::PractitionerRole, Query::new().with("organization", places)).await?;
        let mut found = self.organizations(organizations).await?;
        let people: BTreeMap<Key, ()> = roles
            .iter()
            .filter_map(|role| Some((role.to::<PractitionerRole>().ok()?.practitioner?.key()?, ())))
            .collect();
        let mut practitioners = Vec::new();
        for key in people.into_keys() {
            practitioners.extend(self.read(&key).await?);
        }
        found.extend(self.practitioners(practitioners).await?);
        Ok(found)
    }

    async fn organizations(&self, organizations: Vec<Resource>) -> Result<Vec<Listing>, FhirError> {
        let mut found = Vec::new();
        for organization in organizations {
            let employer = self.employer(organization.clone()).await?;
            found.push(listing::of_organization(&organization, &employer));
        }
        Ok(found)
    }

    /// Practitioners, each in every role.
    async fn practitioners(&self, practitioners: Vec<Resource>) -> Result<Vec<Listing>, FhirError> {
        let Some(people) = keys(&practitioners) else { return Ok(Vec::new()) };
        let roles = self.search(ResourceType::PractitionerRole, Query::new().with("practitioner", people)).await?;
        let mut employers: HashMap<Key, Employer> = HashMap::new();
        let mut found = Vec::new();
        for practitioner in &practitioners {
            let before = found.len();
            for resource in &roles {
                let Ok(role) = resource.to::<PractitionerRole>() else { continue };
                let of_them = role.practitioner.as_ref().and_then(Reference::key) == practitioner.key();
                if !of_them || !listing::is_held(&role, now()) {
                    continue;
                }
                let employer = self.employer_of(&role, &mut employers).await?;
                found.push(listing::of_practitioner(practitioner, Some((resource, &employer))));
            }
            if found.len() == before {
                found.push(listing::of_practitioner(practitioner, None));
            }
        }
        Ok(found)
    }

    async fn employer_of(
        &self,
        role: &PractitionerRole,
        known: &mut HashMap<Key, Employer>,
    ) -> Result<Employer, FhirError> {
        let Some(reference) = &role.organization else { return Ok(Employer::default()) };
        let Some(key) = reference.key().filter(|key| key.kind == ResourceType::Organization) else {
            let number = reference.identifier.as_deref().filter(|identifier| identifier.is_of(person::URA));
            return Ok(Employer { ura: number.and_then(|number| number.value.clone()), homeserver: None });
        };
        if let Some(employer) = known.get(&key) {
            return Ok(employer.clone());
        }
        let employer = match self.read(&key).await? {
            Some(organization) => self.employer(organization).await?,
            None => Employer::default(),
        };
        known.insert(key, employer.clone());
        Ok(employer)
    }

    /// Number and homeserver of an organisation, or of what it is a part of.
    async fn employer(&self, organization: Resource) -> Result<Employer, FhirError> {
        let mut employer = Employer::default();
        let mut next = Some(organization);
        for _ in 0..LEVELS {
            let Some(resource) = next.take() else { break };
            let Ok(organization) = resource.to::<Organization>() else { break };
            employer.ura = employer.ura.or_else(|| listing::ura(&organization));
            if employer.homeserver.is_none() {
                employer.homeserver = self.homeserver(&resource, &organization).await?;
            }
            if employer.ura.is_some() && employer.homeserver.is_some() {
                break;
            }
            let above = organization.part_of.as_ref().and_then(Reference::key);
            if let Some(above) = above.filter(|key| key.kind == ResourceType::Organization) {
                next = self.read(&above).await?;
            }
        }
        Ok(employer)
    }

    /// The homeserver that an organisation names itself: in `telecom`, or as an Endpoint.
    async fn homeserver(&self, resource: &Resource, organization: &Organization) -> Result<Option<String>, FhirError> {
        if let Some(named) = person::homeserver(organization).as_deref().and_then(listing::server_name) {
            return Ok(Some(named));
        }
        let mut endpoints = Vec::new();
        for key in organization.endpoint.iter().filter_map(Reference::key).take(MOST) {
            endpoints.extend(self.read(&key).await?);
        }
        if endpoints.is_empty()
            && let Some(key) = resource.key()
        {
            let query = Query::new().with("organization", key.to_string());
            endpoints = self.search(ResourceType::Endpoint, query).await?;
        }
        let mut typed = endpoints.iter().filter_map(|endpoint| endpoint.to::<Endpoint>().ok());
        Ok(typed.find_map(|endpoint| listing::homeserver_at(&endpoint, now())))
    }

    async fn read(&self, key: &Key) -> Result<Option<Resource>, FhirError> {
        match self.server.read(key.kind, &key.id).await {
            Ok(resource) => Ok(Some(resource).filter(listing::is_active)),
            Err(FhirError::NotFound(_) | FhirError::NotSupported(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What matches and is in use, by id.
    async fn search(&self, kind: ResourceType, query: Query) -> Result<Vec<Resource>, FhirError> {
        let query = query.with("_count", MOST.to_string());
        let mut page = match self.server.search(kind, &query).await {
            Ok(page) => page,
            Err(FhirError::NotFound(_) | FhirError::NotSupported(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        loop {
            let matches = page.matches().filter(|resource| resource.kind() == Some(kind));
            found.extend(matches.filter(|resource| listing::is_active(resource)).cloned());
            match page.next.take() {
                Some(next) if found.len() < MOST => page = self.server.follow(&next).await?,
                _ => break,
            }
        }
        found.truncate(MOST);
        found.sort_by_key(Resource::key);
        Ok(found)
    }
}

/// The keys of resources as the value of a search parameter; `None` for no resources: they would match everything.
fn keys(resources: &[Resource]) -> Option<String> {
    let keys: Vec<String> = resources.iter().filter_map(Resource::key).map(|key| key.to_string()).collect();
    (!keys.is_empty()).then(|| keys.join(","))
}

#[cfg(test)]
mod tests;
