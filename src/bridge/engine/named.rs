//! People who are named by a business identifier alone: found in FHIR, else in the care directory.

use tracing::debug;

use super::{Done, Engine, Trouble, work};
use crate::{
    bridge::{
        directory::Wanted,
        identity::Instance,
        mapping::{
            listing, logical,
            logical::Sought,
            person::{self, Profile},
        },
        store::{Change, Side},
    },
    fhir::{
        query::{Query, escape},
        resources::{CareTeam, CommunicationRequest, Reference, Resource, ResourceType},
        server::FhirError,
    },
};

/// Resources that one number may find; more than one is one too many.
const MOST: &str = "10";
/// Parked work that is looked at in one go.
const HELD: usize = 500;
/// Begin of the lane of what is not known of a place.
const PARTICIPANTS: &str = "participants ";

/// Whom a number means.
enum Found {
    One(Instance),
    Nobody,
    Several,
}

// === impl Engine ===

impl Engine {
    /// A team, with the ids of members who are named by number alone where they are known.
    ///
    /// # Errors
    /// When the resource is no CareTeam, or FHIR server or directory do not answer.
    pub async fn team_in(&self, resource: &Resource) -> Result<CareTeam, Trouble> {
        let mut team: CareTeam = resource.to()?;
        self.name_all(logical::in_team(&mut team)).await?;
        Ok(team)
    }

    /// A conversation, with the ids of people who are named by number alone where they are known.
    pub(super) async fn request_in(&self, resource: &Resource) -> Result<CommunicationRequest, Trouble> {
        let mut request: CommunicationRequest = resource.to()?;
        self.name_all(logical::in_request(&mut request)).await?;
        Ok(request)
    }

    /// Writes into references by number whom they mean. Says of which nobody knows that, in sentences without the
    /// numbers.
    pub(super) async fn name_all(&self, references: Vec<&mut Reference>) -> Result<Vec<String>, Trouble> {
        let mut unknown = Vec::new();
        for reference in references {
            unknown.extend(self.name(reference).await?);
        }
        Ok(unknown)
    }

    /// Writes into a reference by number whom it means; a sentence when nobody knows that.
    pub(super) async fn name(&self, reference: &mut Reference) -> Result<Option<String>, Trouble> {
        let Some(sought) = Sought::by(reference) else { return Ok(None) };
        let said = match self.seek(&sought).await? {
            Found::One(instance) => {
                reference.reference = Some(instance.to_string());
                return Ok(None);
            }
            Found::Nobody => format!("no {} is known by", kinds(&sought)),
            Found::Several => format!("more than one {} is known by", kinds(&sought)),
        };
        Ok(Some(format!("{said} the identifier that is given in the system {}", sought.system())))
    }

    async fn seek(&self, sought: &Sought<'_>) -> Result<Found, Trouble> {
        let mut found: Vec<Instance> = Vec::new();
        for kind in sought.kinds {
            let Ok(resource_type) = kind.name().parse::<ResourceType>() else { continue };
            for instance in self.with_number(resource_type, sought).await? {
                // Records that were merged are one person.
                let instance = self.survivor(&instance).await?;
                if !found.contains(&instance) {
                    found.push(instance);
                }
            }
            if !found.is_empty() && !sought.strict {
                break;
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(Found::One(one)),
            (Some(_), false) => Ok(Found::Several),
            (None, _) => self.seek_in_directory(sought).await,
        }
    }

    /// Those who have a number, by what they say themselves: not every server keeps to what it is asked.
    async fn with_number(&self, kind: ResourceType, sought: &Sought<'_>) -> Result<Vec<Instance>, Trouble> {
        let tokens = sought.systems.iter().map(|system| format!("{}|{}", escape(system), escape(sought.value)));
        let query = Query::new().with("identifier", tokens.collect::<Vec<_>>().join(",")).with("_count", MOST);
        let page = match self.fhir.search(kind, &query).await {
            Ok(page) => page,
            Err(FhirError::NotFound(_) | FhirError::NotSupported(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let those = page.matches().filter(|resource| listing::is_active(resource) && sought.is(resource));
        let keys = those.filter_map(Resource::key);
        Ok(keys.filter_map(|key| Instance::parse(&key.to_string()).ok()).collect())
    }

    /// Professionals and organisations whom the FHIR server does not know may be in a directory elsewhere.
    async fn seek_in_directory(&self, sought: &Sought<'_>) -> Result<Found, Trouble> {
        let number = sought.public_number().filter(|_| self.directory.is_elsewhere());
        let Some(instance) = number.as_ref().and_then(logical::by_number) else { return Ok(Found::Nobody) };
        let mut listed: Vec<String> = self.listings(&instance).await?.into_iter().map(|found| found.resource).collect();
        listed.dedup();
        Ok(match listed.len() {
            0 => Found::Nobody,
            1 => Found::One(instance),
            _ => Found::Several,
        })
    }

    /// What the directory lists of somebody whom it alone knows.
    async fn listings(&self, person: &Instance) -> Result<Vec<listing::Listing>, Trouble> {
        let Some(number) = logical::number_of(person).and_then(|number| Some((number.system?, number.value?))) else {
            return Ok(Vec::new());
        };
        let wanted = match number.0.as_str() {
            person::UZI => Wanted::professional(&number.1),
            _ => Wanted::organization(&number.1),
        };
        let found = self.directory.find(&wanted).await.map_err(|error| self.directory_trouble(error))?;
        // An organisation is listed with those who work there.
        let kind = format!("{}/", person.kind().name());
        Ok(found.iter().filter(|listing| listing.resource.starts_with(&kind)).cloned().collect())
    }

    /// What the number of somebody says whom only the directory knows.
    pub(super) fn profile_by_number(person: &Instance) -> Profile {
        person::numbers(logical::number_of(person).as_ref())
    }

    /// The teams and conversations that may name somebody by these identifiers.
    pub(super) async fn places_naming(&self, identifiers: &[(&str, &str)]) -> Result<Vec<Resource>, Trouble> {
        if identifiers.is_empty() {
            return Ok(Vec::new());
        }
        let tokens: Vec<String> =
            identifiers.iter().map(|(system, value)| format!("{}|{}", escape(system), escape(value))).collect();
        let mut found = Vec::new();
        for (kind, parameters) in [
            (ResourceType::CareTeam, ["participant"].as_slice()),
            (ResourceType::CommunicationRequest, &["recipient", "requester", "sender"]),
        ] {
            for parameter in parameters {
                let query = Query::new().with(format!("{parameter}:identifier"), tokens.join(","));
                match self.all(kind, &query).await {
                    Ok(places) => found.extend(places),
                    // Not every server has the modifier; there, places are looked at when they change themselves.
                    Err(Trouble::Refused(reason)) => debug!(%kind, parameter, reason, "no search by identifier"),
                    Err(trouble) => return Err(trouble),
                }
            }
        }
        found.sort_by_key(Resource::key);
        found.dedup_by_key(|place| place.key());
        Ok(found)
    }

    /// Work that is parked for as long as nobody knows who is meant in a place; everybody else takes part meanwhile.
    pub(super) async fn remark(&self, place: &Instance, unknown: &[String]) -> Result<Option<Change>, Trouble> {
        let key = place.to_string();
        let lane = participants_lane(&key);
        if let Some(seq) = self.parked_in(&lane).await? {
            return Ok(Some(Change::Retry { seq: Some(seq) }));
        }
        let look = || work(Side::Matrix, lane, "participants", &key).map(Change::Soon);
        (!unknown.is_empty()).then(look).transpose()
    }

    /// Puts back what is parked because nobody was known by such a number: a server may find nothing by `:identifier`,
    /// and not say that it does not know it.
    pub(super) async fn places_in_doubt(&self, identifiers: &[(&str, &str)]) -> Done {
        let (mut changes, mut after) = (Vec::new(), 0);
        if identifiers.is_empty() {
            return Ok(changes);
        }
        loop {
            let held = self.store.held_after(None, after, HELD).await?;
            let Some(last) = held.last() else { return Ok(changes) };
            after = last.seq;
            for work in &held {
                // A reason names the first who is not known, and counts the others.
                let is_meant = work.reason.ends_with(" more")
                    || identifiers.iter().any(|(system, _)| work.reason.contains(*system));
                if work.parked && work.lane.starts_with(PARTICIPANTS) && is_meant {
                    changes.push(Change::Retry { seq: Some(work.seq) });
                }
            }
        }
    }

    /// Parked work in a lane.
    pub(super) async fn parked_in(&self, lane: &str) -> Result<Option<i64>, Trouble> {
        let parked = self.store.held_after(Some(vec![lane.to_owned()]), 0, 1).await?;
        Ok(parked.first().map(|work| work.seq))
    }

    /// Somebody in a place was not known: by now they may be.
    pub(super) async fn look_for_participants(&self, payload: &str) -> Done {
        let key: String = serde_json::from_str(payload)?;
        let Ok(place) = Instance::parse(&key) else { return Ok(Vec::new()) };
        let Some(resource) = self.resource_of(&place).await? else { return Ok(Vec::new()) };
        let unknown = match resource.kind() {
            Some(ResourceType::CareTeam) => self.name_all(logical::in_team(&mut resource.to()?)).await?,
            _ => self.name_all(logical::in_request(&mut resource.to()?)).await?,
        };
        let [first, others @ ..] = unknown.as_slice() else {
            return Ok(self.look_again(&resource)?.into_iter().collect());
        };
        // The place changed while somebody looked: the work that is parked says it for both, as it is now.
        if let Some(seq) = self.parked_in(&participants_lane(&key)).await? {
            return Ok(vec![Change::Retry { seq: Some(seq) }]);
        }
        Err(Trouble::Refused(match others.len() {
            0 => first.clone(),
            more => format!("{first}; and {more} more"),
        }))
    }
}

/// The lane of what is not known of a place.
pub(super) fn participants_lane(place: &str) -> String {
    format!("{PARTICIPANTS}{place}")
}

fn kinds(sought: &Sought<'_>) -> String {
    let names: Vec<_> = sought.kinds.iter().map(|kind| kind.name()).collect();
    match names.as_slice() {
        [one] => (*one).to_owned(),
        _ if sought.strict => "person".to_owned(),
        names => names.join(" or "),
    }
}
