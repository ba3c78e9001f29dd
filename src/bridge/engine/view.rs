//! What people look at, and what they put back to work: the doors through which page and bot reach the engine.

use std::sync::Arc;

use super::{Engine, Trouble};
use crate::{
    bridge::{
        identity::{Instance, Names},
        mapping::{audit, audit::Actor, stable_id},
        store::{Change, StoreError, now},
    },
    fhir::{
        resources::Resource,
        server::{Condition, FhirError, FhirServer},
    },
};

/// For this long, seeing the same conversation again is the same look at it.
const ONE_LOOK: i64 = 3_600_000;

// === impl Engine ===

impl Engine {
    /// The bridge's names on its homeserver.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The FHIR server.
    pub fn fhir(&self) -> &Arc<dyn FhirServer> {
        &self.fhir
    }

    /// How the engine works.
    pub fn settings(&self) -> &super::Settings {
        &self.settings
    }

    /// The resource of a team, conversation or person; `None` when there is none.
    ///
    /// # Errors
    /// When the FHIR server does not answer.
    pub async fn look_up(&self, instance: &Instance) -> Result<Option<Resource>, Trouble> {
        self.resource_of(instance).await
    }

    /// Puts parked work back to its place, and wakes who does it. Without numbers, all of it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn retry(&self, numbers: Option<&[i64]>) -> Result<(), StoreError> {
        let changes = match numbers {
            None => vec![Change::Retry { seq: None }],
            Some(numbers) => numbers.iter().map(|seq| Change::Retry { seq: Some(*seq) }).collect(),
        };
        self.commit(changes).await
    }

    /// Writes down that somebody sees the texts of a conversation on the web page (NEN 7513), once an hour at most.
    ///
    /// `what` names a version: `CommunicationRequest/1/_history/3`. Where `engine.audit` is off nothing is written.
    ///
    /// # Errors
    /// When it could not be written: then the texts are not to be shown.
    pub async fn note_viewing(&self, viewer: &str, what: &str) -> Result<(), Trouble> {
        if !self.settings.audit {
            return Ok(());
        }
        let at = now();
        let actor = Actor { who: None, user_id: viewer.to_owned() };
        let mut event = audit::read(&actor, what, at, self.names.server());
        event.id = stable_id("page", &[viewer, what, &at.div_euclid(ONE_LOOK).to_string()]).parse().ok();
        match self.fhir.update(Resource::of(&event), Condition::Absent).await {
            Ok(_) | Err(FhirError::VersionConflict(_)) => Ok(()),
            Err(FhirError::NotSupported(_)) => self.create_audit(Resource::of(&event)).await,
            Err(error) => Err(error.into()),
        }
    }
}
