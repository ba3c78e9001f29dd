//! What users have read, asked for: ephemeral data is pushed once, and not to a service that was away.
//!
//! Synapse answers `/sync` for a service's own user with 500 (it says so in its code: not supported any more). The
//! older `GET /rooms/{id}/initialSync`, which the specification keeps as deprecated, has each member's newest receipt.

use http::{Method, StatusCode};
use ruma::RoomId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Error, Intent, Repeat};
use crate::matrix::{path::encode, transaction::Ephemeral};

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    receipts: Vec<Box<RawValue>>,
}

// === impl Intent ===

impl Intent {
    /// The newest receipt of every user in a room; nothing from a homeserver that does not tell.
    ///
    /// # Errors
    /// See [`Error`]; forbidden for who is not in the room.
    pub async fn receipts(&self, room: &RoomId) -> Result<Vec<Ephemeral>, Error> {
        self.register().await?;
        let user = (*self.user != *self.homeserver.bot_id()).then_some(&*self.user);
        let path = format!("/_matrix/client/v3/rooms/{}/initialSync", encode(room.as_str()));
        let request = self.homeserver.bare(Method::GET, &path, "limit=1", user)?;
        let body = match self.homeserver.transport().exchange(request, Repeat::Always).await {
            Ok(response) => response.into_body(),
            Err(error) if error.refused().is_some_and(|refused| refused.status == StatusCode::NOT_FOUND) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| Error::Answer { path, reason: format!("not a room (line {})", error.line()) })?;
        Ok(answer.receipts.iter().map(|receipt| Ephemeral::parse(receipt.get())).collect())
    }
}
