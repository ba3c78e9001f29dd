//! Both sides of a conversation compared, and what is missing on one side put to work again.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;

use super::{Engine, Trouble, feed, listen};
use crate::{
    bridge::{
        bot,
        identity::{Instance, Kind},
        mapping::message,
        store::{Change, MessageLink, NewWork, Role, RoomLink, Side},
    },
    fhir::{
        query::Query,
        resources::{Communication, Resource, ResourceType},
    },
    matrix::{
        Event,
        intent::{Direction, Format},
    },
};

/// Events on a page.
const PAGE: u32 = 100;

/// What one side has and the other has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Difference {
    /// A resource that has no room.
    NoRoom {
        /// `CareTeam/1` or `CommunicationRequest/1`.
        resource: String,
    },
    /// A Communication that is no event.
    NotInMatrix {
        /// `Communication/1`.
        resource: String,
    },
    /// An event that is no Communication.
    NotInFhir {
        /// The room.
        room_id: String,
        /// The event.
        event_id: String,
    },
}

/// What a comparison found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Conversations that were compared.
    pub conversations: usize,
    /// Messages that are on both sides.
    pub equal: usize,
    /// What is not.
    pub differences: Vec<Difference>,
    /// Whether work was stored that repairs them.
    pub repaired: bool,
}

// === impl Engine ===

impl Engine {
    /// Compares everything, or one conversation (`CommunicationRequest/1`), and stores the work that repairs it.
    ///
    /// # Errors
    /// When a side cannot be asked.
    pub async fn reconcile(&self, only: Option<&str>, repair: bool) -> Result<Report, Trouble> {
        self.reconcile_telling(only, repair, &|_, _| {}).await
    }

    /// As [`Engine::reconcile`], and tells after each conversation what was found until then, and how many
    /// conversations there are. What was found until then is being repaired, also when the rest cannot be compared.
    ///
    /// # Errors
    /// When a side cannot be asked.
    pub async fn reconcile_telling(
        &self,
        only: Option<&str>,
        repair: bool,
        tell: &(dyn Fn(&Report, usize) + Send + Sync),
    ) -> Result<Report, Trouble> {
        let mut report = Report { repaired: repair, ..Report::default() };
        let mut changes = Vec::new();
        for resource in self.places(only).await? {
            let Some(key) = resource.key().map(|key| key.to_string()).filter(|_| expects_room(&resource)) else {
                continue;
            };
            if self.store.room_of(&key).await?.is_none() {
                report.differences.push(Difference::NoRoom { resource: key });
                changes.extend(again(resource));
            }
        }
        let is_thread = |link: &RoomLink| {
            Instance::parse(&link.place).is_ok_and(|place| place.kind() == Kind::CommunicationRequest)
                && only.is_none_or(|only| only == link.place)
        };
        let links: Vec<RoomLink> = self.store.rooms().await?.into_iter().filter(is_thread).collect();
        tell(&report, links.len());
        for link in &links {
            changes.extend(self.compare(link, &mut report).await?);
            report.conversations += 1;
            if repair {
                self.commit(std::mem::take(&mut changes)).await?;
            }
            tell(&report, links.len());
        }
        if repair {
            self.commit(changes).await?;
        }
        Ok(report)
    }

    /// All teams and conversations of the FHIR server, or one.
    async fn places(&self, only: Option<&str>) -> Result<Vec<Resource>, Trouble> {
        if let Some(only) = only {
            let Ok(place) = Instance::parse(only) else { return Ok(Vec::new()) };
            return Ok(self.resource_of(&place).await?.into_iter().collect());
        }
        let mut places = self.all(ResourceType::CareTeam, &Query::new()).await?;
        places.extend(self.all(ResourceType::CommunicationRequest, &Query::new()).await?);
        Ok(places)
    }

    async fn compare(&self, link: &RoomLink, report: &mut Report) -> Result<Vec<Change>, Trouble> {
        let known: HashMap<String, MessageLink> = self
            .store
            .messages_in(&link.room_id)
            .await?
            .into_iter()
            .map(|link| (link.event_id.clone(), link))
            .collect();
        let mut events = self.everything_in(link).await?;
        let mut changes = Vec::new();
        let query = Query::new().with("part-of", link.place.clone());
        let communications = self.all(ResourceType::Communication, &query).await?;
        let mut in_fhir = Vec::new();
        for resource in communications {
            let communication: Communication = resource.to()?;
            let Some(key) = resource.key().map(|key| key.to_string()) else { continue };
            in_fhir.push(key.clone());
            if !listen::is_shown(&communication) {
                continue;
            }
            let by_link = known.values().find(|link| link.resource == key && link.role == Role::Message);
            let event = by_link.map(|link| link.event_id.as_str()).or_else(|| message::event_of(&communication));
            if event.is_some_and(|event| events.remove(event).is_some()) {
                report.equal += 1;
            } else if by_link.is_none() {
                report.differences.push(Difference::NotInMatrix { resource: key });
                changes.extend(again(resource));
            }
        }
        let since = self.linked_since(&link.room_id).await?;
        for (event_id, event) in events {
            let Ok(outline) = event.outline() else { continue };
            if self.names.is_ours(outline.sender.as_str())
                || outline.kind != "m.room.message"
                || outline.is_redacted()
                || bot::is_command(&event)
            {
                continue;
            }
            let said = i64::from(outline.origin_server_ts.get());
            if since.is_some_and(|since| said < since) && !known.contains_key(&event_id) {
                // Said before the room was linked.
                continue;
            }
            if known.get(&event_id).is_some_and(|link| in_fhir.contains(&link.resource)) {
                continue;
            }
            report.differences.push(Difference::NotInFhir { room_id: link.room_id.clone(), event_id });
            // Whether it was taken in before does not matter: it is not there.
            let work = NewWork {
                side: Side::Fhir,
                lane: link.room_id.clone(),
                kind: "event",
                payload: event.json().to_owned(),
                delay: Duration::ZERO,
            };
            let arrival =
                Change::TakeEvent { event_id: outline.event_id.to_string(), room_id: link.room_id.clone(), work: None };
            changes.extend([
                arrival,
                Change::Once { key: format!("reconcile {} {}", outline.event_id, crate::bridge::store::now()), work },
            ]);
        }
        Ok(changes)
    }

    /// Every message-like event of a room by its id.
    async fn everything_in(&self, link: &RoomLink) -> Result<HashMap<String, Event>, Trouble> {
        let room = self.linked_room(link)?;
        let bot = self.homeserver.bot();
        let (mut from, mut events) = (None, HashMap::new());
        loop {
            let page = bot.messages(&room, from.as_deref(), Direction::Backward, PAGE, Format::Client).await?;
            let is_empty = page.events.is_empty();
            for event in page.events {
                if let Ok(outline) = event.outline()
                    && outline.state_key.is_none()
                {
                    events.insert(outline.event_id.to_string(), event);
                }
            }
            match page.end {
                Some(end) if !is_empty => from = Some(end),
                _ => return Ok(events),
            }
        }
    }
}

/// Whether FHIR's status of a team or conversation asks for a room.
fn expects_room(resource: &Resource) -> bool {
    resource.members().get("status").and_then(serde_json::Value::as_str) == Some("active")
}

/// The work of a resource once more.
fn again(resource: Resource) -> Option<Change> {
    let key = format!("reconcile {} {}", resource.versioned_key()?, crate::bridge::store::now());
    Some(Change::Once { key, work: feed::work_for(resource)? })
}
