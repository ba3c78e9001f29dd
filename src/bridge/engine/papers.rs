//! Whether a state is that of this bridge, and whether all who share it work with the same registration.
//!
//! Nothing else would tell replicas apart that were given different settings: each would carry half of the work to other
//! users or another homeserver. So the state names its homeserver, for good once there is a room, and the registration
//! of the bridge that started last, as a short digest.

use ring::digest::{SHA256, digest};

use super::Engine;
use crate::{
    bridge::store::Change,
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
        let own = [
            (SERVER, self.homeserver.server_name().to_string()),
            (REGISTRATION, digest_of(self.homeserver.registration())),
        ];
        let failed = |error| Failure::new(Status::Unavailable, "cannot read whose the state is").because(error);
        let mut same = [true; 2];
        for (same, (name, value)) in same.iter_mut().zip(&own) {
            let found = self.store.cursor(name).await.map_err(failed)?;
            *same = found.is_none_or(|found| found == *value);
        }
        let [same_server, same_registration] = same;
        // As long as it holds no room, somebody is still setting it up.
        if !same_server && self.store.overview().await.map_err(failed)?.rooms > 0 {
            let text = format!("the state is that of a bridge of another homeserver than {}", own[0].1);
            return Err(Failure::new(Status::Config, text)
                .remedy("Correct homeserver.server_name, or name another state directory or database."));
        }
        let notes = own.map(|(name, value)| Change::Cursor { name: name.to_owned(), value });
        self.store.commit(notes.to_vec()).await.map_err(failed)?;
        Ok(same_registration)
    }
}

/// What tells two registrations apart: namespaces, bot and tokens. Their addresses may differ.
fn digest_of(registration: &Registration) -> String {
    let namespaces = serde_json::to_string(&(&registration.namespaces, &registration.sender_localpart));
    let (own, homeserver) = (registration.as_token.expose(), registration.hs_token.expose());
    let all = format!("{}\n{own}\n{homeserver}", namespaces.unwrap_or_default());
    digest(&SHA256, all.as_bytes()).as_ref().iter().take(SHORT).map(|byte| format!("{byte:02x}")).collect()
}
