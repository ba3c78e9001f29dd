//! Who has read what: receipts, Tasks and AuditEvents.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Done, Engine, Trouble, event_id, room_id, user_id};
use crate::{
    bridge::{
        identity::Instance,
        mapping::{
            audit::{self, Actor},
            logical, reading, thread,
        },
        store::{Change, MessageLink, Need, Work, now},
    },
    fhir::{
        audit::put_trace,
        id::Key,
        query::Query,
        resources::{CommunicationRequest, Identifier, Reference, Resource, ResourceType, Task, TaskStatus},
        server::{Condition, FhirError},
    },
    service::trace,
};

/// Somebody has read up to an event.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Read {
    pub(super) user_id: String,
    pub(super) event_id: String,
    /// Milliseconds since 1970.
    pub(super) at: i64,
}

/// There is a new message in a conversation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NewMessage {
    pub(super) request: String,
    pub(super) message: String,
    pub(super) sender: Option<String>,
}

// === impl Engine ===

impl Engine {
    /// A new message: unread for every member but its sender.
    pub(super) async fn move_tasks(&self, payload: &str) -> Done {
        let new: NewMessage = serde_json::from_str(payload)?;
        let Ok(request) = Instance::parse(&new.request) else { return Ok(Vec::new()) };
        let Some(resource) = self.resource_of(&request).await? else { return Ok(Vec::new()) };
        let resource: CommunicationRequest = resource.to()?;
        let mut changes = Vec::new();
        for member in self.circle(&resource).await?.members {
            let is_sender = new.sender.as_deref() == Some(member.person.to_string().as_str());
            let subject = resource.subject.clone();
            let change = |task: &mut Task| reading::new_message(task, &new.message, is_sender, now());
            changes.extend(self.change_task(&request, &member.person, Some(subject), change).await?);
        }
        Ok(changes)
    }

    /// A receipt: the reader's Task is completed, unless something newer is unread, and it is written down.
    pub(super) async fn mark_read(&self, payload: &str, work: &Work) -> Done {
        let read: Read = serde_json::from_str(payload)?;
        let Some(message) = self.message_at(&read).await? else { return Ok(Vec::new()) };
        let Some(place) = self.store.place_of(&message.room_id).await? else { return Ok(Vec::new()) };
        let Ok(request) = Instance::parse(&place.place) else { return Ok(Vec::new()) };
        let person = self.person_in(&request, &read.user_id).await?;
        let mut changes = Vec::new();
        if let Some(person) = person.as_ref().filter(|_| self.settings.tasks)
            && !self.has_newer(&request, person, &message).await?
        {
            changes.extend(self.change_task(&request, person, None, |task| reading::read(task, read.at)).await?);
        }
        if self.settings.audit {
            self.write_audit(&read, &message, person.as_ref()).await?;
        }
        tracing::debug!(seq = work.seq, "a receipt was written down");
        Ok(changes)
    }

    /// The newest message that a reader has seen.
    async fn message_at(&self, read: &Read) -> Result<Option<MessageLink>, Trouble> {
        if !self.store.knows_event(&read.event_id).await? {
            return Err(Trouble::Wait(Need::Event(read.event_id.clone())));
        }
        let room = match self.store.message(&read.event_id).await? {
            Some(message) => return Ok(Some(message)),
            None => self.store.room_of_event(&read.event_id).await?,
        };
        match room {
            Some(room) => Ok(self.store.newest_message_at(&room, &read.event_id).await?),
            None => Ok(None),
        }
    }

    /// Whether somebody's Task is about a message that came after the one that they read.
    async fn has_newer(&self, request: &Instance, person: &Instance, message: &MessageLink) -> Result<bool, Trouble> {
        let Some(task) = self.find_task(request, person).await? else { return Ok(false) };
        let Some(focus) = task.0.focus.and_then(|focus| focus.reference) else { return Ok(false) };
        match self.said_of(&focus).await?.first() {
            Some(newest) => Ok(self.store.arrived_after(&newest.event_id, &message.event_id).await?),
            None => Ok(false),
        }
    }

    async fn write_audit(&self, read: &Read, message: &MessageLink, person: Option<&Instance>) -> Result<(), Trouble> {
        let Some(key) = Key::parse(&message.resource) else { return Ok(()) };
        let resource = self.fhir.read(key.kind, &key.id).await?;
        let what = resource.versioned_key().map_or(message.resource.clone(), |key| key.to_string());
        let actor = Actor { who: person.map(logical::reference), user_id: read.user_id.clone() };
        let event = audit::read(&actor, &what, read.at, self.names.server());
        let mut event = Resource::of(&event);
        if let Some(trace) = trace::current() {
            put_trace(&mut event, &trace);
        }
        match self.fhir.update(event.clone(), Condition::Absent).await {
            Ok(_) | Err(FhirError::VersionConflict(_)) => Ok(()),
            Err(FhirError::NotSupported(_)) => self.create_audit(event).await,
            Err(error) => Err(error.into()),
        }
    }

    /// A server that takes no ids for AuditEvents gets one more after a crash, rather than none. One that takes none
    /// at all keeps no record of reading; that is said once, and no reason to leave the rest undone.
    pub(super) async fn create_audit(&self, event: Resource) -> Result<(), Trouble> {
        match self.fhir.create(event, None).await {
            Ok(_) => Ok(()),
            Err(FhirError::NotSupported(_)) => {
                if !self.said_no_audit.swap(true, Ordering::Relaxed) {
                    warn!("the FHIR server takes no AuditEvents: who has read what is not written down there");
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A Task changed in FHIR: what a ghost's person has read there, the ghost has read in Matrix.
    pub(super) async fn apply_task(&self, payload: &str) -> Done {
        let resource = Resource::from_json(payload.as_bytes())?;
        let mut task: Task = resource.to()?;
        if let Some(owner) = task.owner.as_mut() {
            self.name(owner).await?;
        }
        let request = task.based_on.iter().find_map(thread::instance);
        let owner = task.owner.as_ref().and_then(thread::instance).filter(|owner| owner.kind().is_person());
        let (Some(request), Some(owner), Some(key)) = (request, owner, resource.key()) else { return Ok(Vec::new()) };
        let link =
            Change::LinkTask { request: request.to_string(), owner: owner.to_string(), id: key.id.as_str().to_owned() };
        let focus = task.focus.as_ref().and_then(|focus| focus.reference.clone());
        let (Some(TaskStatus::Completed), Some(focus)) = (&task.status, focus) else { return Ok(vec![link]) };
        let Some(message) = self.said_of(&focus).await?.into_iter().next() else { return Ok(vec![link]) };
        // What was said in a room that is gone can be read there no more.
        let linked = self.store.room_of(&request.to_string()).await?;
        if linked.is_none_or(|linked| linked.room_id != message.room_id) {
            return Ok(vec![link]);
        }
        let ghost = user_id(&self.names.ghost(&owner))?;
        let room = room_id(&message.room_id)?;
        let membership = self.homeserver.bot().membership(&room, &ghost).await?;
        if membership == crate::matrix::intent::Membership::Join {
            self.homeserver.intent(&ghost)?.mark_read(&room, &event_id(&message.event_id)?).await?;
        }
        Ok(vec![link])
    }

    /// Changes somebody's Task; makes it when `subject` is given and there is none.
    async fn change_task(
        &self,
        request: &Instance,
        owner: &Instance,
        subject: Option<Option<Reference>>,
        change: impl Fn(&mut Task) -> bool,
    ) -> Result<Option<Change>, Trouble> {
        let link =
            |id: &str| Change::LinkTask { request: request.to_string(), owner: owner.to_string(), id: id.to_owned() };
        match (self.find_task(request, owner).await?, subject) {
            (Some((mut task, version)), _) => {
                if !change(&mut task) {
                    return Ok(None);
                }
                self.fhir.update(Resource::of(&task), Condition::VersionIs(&version)).await?;
                Ok(None)
            }
            (None, None) => Ok(None),
            (None, Some(subject)) => {
                let mut task = reading::task(request, owner, subject, now());
                change(&mut task);
                let resource = Resource::of(&task);
                let written = match self.fhir.update(resource.clone(), Condition::Absent).await {
                    Err(FhirError::NotSupported(_)) => {
                        let unless = task_query(request, owner);
                        self.fhir.create(resource, Some(&unless)).await?
                    }
                    other => other?,
                };
                Ok(written.resource.id().map(|id| link(id.as_str())))
            }
        }
    }

    /// Somebody's Task in a conversation and its version: the one that is known, else one that FHIR has.
    async fn find_task(&self, request: &Instance, owner: &Instance) -> Result<Option<(Task, String)>, Trouble> {
        let known = self.store.task_of(&request.to_string(), &owner.to_string()).await?;
        let known = known.unwrap_or_else(|| reading::task_id(request, owner));
        let found = match known.parse() {
            Ok(id) => match self.fhir.read(ResourceType::Task, &id).await {
                Ok(resource) => Some(resource),
                Err(FhirError::NotFound(_)) => None,
                Err(error) => return Err(error.into()),
            },
            Err(_) => None,
        };
        let found = match found {
            Some(resource) => Some(resource),
            None => self.task_of_others(request, owner).await?,
        };
        match found {
            Some(resource) => {
                let version = resource.version().unwrap_or_default().to_owned();
                Ok(Some((resource.to()?, version)))
            }
            None => Ok(None),
        }
    }

    /// Somebody's Task in a conversation that the bridge did not make. Whom Tasks name by number is seen here: a server
    /// may find nothing by `:identifier`, and not say that it does not know it.
    async fn task_of_others(&self, request: &Instance, owner: &Instance) -> Result<Option<Resource>, Trouble> {
        if logical::number_of(owner).is_none() {
            return Ok(self.all(ResourceType::Task, &task_query(request, owner)).await?.into_iter().next());
        }
        let query = Query::new().with("based-on", request.to_string());
        for task in self.all(ResourceType::Task, &query).await? {
            let named = task.to::<Task>()?.owner.and_then(|owner| owner.identifier);
            if named.as_deref().and_then(logical::by_number).as_ref() == Some(owner) {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }
}

fn task_query(request: &Instance, owner: &Instance) -> Query {
    let query = Query::new().with("based-on", request.to_string());
    match logical::number_of(owner) {
        Some(Identifier { system: Some(system), value: Some(value), .. }) => {
            query.with_token("owner:identifier", &system, &value)
        }
        _ => query.with("owner", owner.to_string()),
    }
}
