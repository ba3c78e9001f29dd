//! Whether a state is that of this bridge, and whether all who share it work with the same registration.
//!
//! Nothing else would tell replicas apart that were given different settings: each would carry half of the work to other
//! users or another homeserver. So the state names its homeserver, for good once there is a room, and the registration
//! of the bridge that started last, as a short digest.

use ring::digest::{SHA256, digest};

use super::Engine;
use crate::{
    bridge::store::{Change, StoreError},
    matrix::registration::Registration,
    service::failure::{Failure, Status},
};

/// The cursor that names the homeserver.
const SERVER: &str = "homeserver";
/// The cursor that tells registrations apart.
const REGISTRATION: &str = "registration";
/// Bytes of the digest that are stored: enough to see that two differ, too few to find a token by.
const SHORT: usize = 4;

// === impl Engine ===

impl Engine {
    /// Notes in the state with what this bridge works. `false`: the bridge that started before on this state had another
    /// registration.
    ///
    /// # Errors
    /// When the state is that of a bridge of another homeserver, and when the store fails.
    pub async fn show_papers(&self) -> Result<bool, Failure> {
        let server = self.homeserver.server_name().to_string();
        let registration = digest_of(self.homeserver.registration());
        // As long as it holds no room, somebody is still setting it up.
        if !self.is_noted(SERVER, &server).await? && self.store.overview().await.map_err(unreadable)?.rooms > 0 {
            let text = format!("the state is that of a bridge of another homeserver than {server}");
            return Err(Failure::new(Status::Config, text)
                .remedy("Correct homeserver.server_name, or name another state directory or database."));
        }
        let is_same = self.is_noted(REGISTRATION, &registration).await?;
        let note = |name: &str, value| Change::Cursor { name: name.to_owned(), value };
        let notes = vec![note(SERVER, server), note(REGISTRATION, registration)];
        self.store.commit(notes).await.map_err(unreadable)?;
        Ok(is_same)
    }

    /// Whether the state names this, or nothing.
    async fn is_noted(&self, name: &str, own: &str) -> Result<bool, Failure> {
        let noted = self.store.cursor(name).await.map_err(unreadable)?;
        Ok(noted.is_none_or(|noted| noted == own))
    }
}

fn unreadable(error: StoreError) -> Failure {
    Failure::new(Status::Unavailable, "cannot read whose the state is").because(error)
}

/// What tells two registrations apart: namespaces, bot and tokens. Their addresses may differ.
fn digest_of(registration: &Registration) -> String {
    let namespaces = serde_json::to_string(&(&registration.namespaces, &registration.sender_localpart));
    let (own, homeserver) = (registration.as_token.expose(), registration.hs_token.expose());
    let all = format!("{}\n{own}\n{homeserver}", namespaces.unwrap_or_default());
    digest(&SHA256, all.as_bytes()).as_ref().iter().take(SHORT).map(|byte| format!("{byte:02x}")).collect()
}
