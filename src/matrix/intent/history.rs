//! Reading back: what `/messages`, `/context` and single events tell, to find and fill gaps.

use bytes::Bytes;
use ruma::{
    EventId, RoomId, UInt,
    api::{
        IncomingResponse as _,
        client::{
            context::get_context,
            filter::RoomEventFilter,
            message::get_message_events::{self, v3::Response},
            room::get_room_event,
        },
    },
};

pub use ruma::api::Direction;

use super::{Error, Intent, Repeat};
use crate::matrix::Event;

/// In which form events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As clients and application services get them.
    #[default]
    Client,
    /// With `prev_events`, the events that stand before each: so gaps are found. Synapse gives it on `/messages`
    /// for `"event_format": "federation"` in the filter; the specification names that for `/sync`.
    Federation,
}

/// One page of a room's history.
#[derive(Clone, Debug)]
pub struct Page {
    /// The events, in the direction that was asked for.
    pub events: Vec<Event>,
    /// Where this page began.
    pub start: String,
    /// Where the next page begins; `None` at the end.
    pub end: Option<String>,
}

/// What stands around an event.
#[derive(Clone, Debug)]
pub struct Context {
    /// The events before it, newest first.
    pub before: Vec<Event>,
    /// The event itself.
    pub event: Option<Event>,
    /// The events after it, oldest first.
    pub after: Vec<Event>,
    /// For [`Intent::messages`] backwards from here.
    pub start: Option<String>,
    /// For [`Intent::messages`] forwards from here.
    pub end: Option<String>,
}

// === impl Intent ===

impl Intent {
    /// One page of a room's history, of at most `limit` events; `from: None` is the newest, or backwards the oldest,
    /// end. Where the homeserver lacks events of before it joined, it asks others for them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn messages(
        &self,
        room: &RoomId,
        from: Option<&str>,
        direction: Direction,
        limit: u32,
        format: Format,
    ) -> Result<Page, Error> {
        self.register().await?;
        let mut request = get_message_events::v3::Request::new(room.to_owned(), direction);
        request.from = from.map(str::to_owned);
        request.limit = UInt::from(limit);
        request.filter = RoomEventFilter::default();
        let user = (*self.user != *self.homeserver.bot_id()).then_some(&*self.user);
        let request = self.homeserver.prepare(user, request)?;
        let request = if format == Format::Federation { with_federation_format(request)? } else { request };
        let path = request.uri().path().to_owned();
        let body = self.homeserver.transport().exchange(request, Repeat::Always).await?.into_body();
        let page = Response::try_from_http_response_inner(http::Response::new(&body[..]))
            .map_err(|error| Error::Answer { path, reason: error.to_string() })?;
        Ok(Page { events: events(page.chunk), start: page.start, end: page.end })
    }

    /// What stands around an event: at most `limit` events in both directions together.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn context(&self, room: &RoomId, event: &EventId, limit: u32) -> Result<Context, Error> {
        let mut request = get_context::v3::Request::new(room.to_owned(), event.to_owned());
        request.limit = UInt::from(limit);
        let response = self.call(request).await?;
        Ok(Context {
            before: events(response.events_before),
            event: response.event.map(|event| Event::new(event.into_json())),
            after: events(response.events_after),
            start: response.start,
            end: response.end,
        })
    }

    /// One event; `None` if there is none, or the user may not see it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn event(&self, room: &RoomId, event: &EventId) -> Result<Option<Event>, Error> {
        match self.call(get_room_event::v3::Request::new(room.to_owned(), event.to_owned())).await {
            Ok(response) => Ok(Some(Event::new(response.event.into_json()))),
            Err(error) if error.is_not_found() || error.is_forbidden() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn events<T>(raw: Vec<ruma::serde::Raw<T>>) -> Vec<Event> {
    raw.into_iter().map(|event| Event::new(event.into_json())).collect()
}

/// Adds the filter that ruma has no field for.
fn with_federation_format(request: http::Request<Bytes>) -> Result<http::Request<Bytes>, Error> {
    let (mut parts, body) = request.into_parts();
    let filter = crate::matrix::path::encode(r#"{"event_format":"federation"}"#);
    let uri = parts.uri.to_string();
    let separator = if parts.uri.query().is_some() { '&' } else { '?' };
    parts.uri = format!("{uri}{separator}filter={filter}")
        .parse()
        .map_err(|error: http::uri::InvalidUri| Error::Request(error.to_string()))?;
    Ok(http::Request::from_parts(parts, body))
}
