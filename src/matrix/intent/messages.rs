//! Sending: messages, redactions, receipts, typing.

use std::time::Duration;

use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedTransactionId, RoomId, TransactionId,
    api::client::{
        message::send_message_event,
        receipt::create_receipt::{self, v3::ReceiptType},
        redact::redact_event,
        typing::create_typing_event::{
            self,
            v3::{Typing, TypingInfo},
        },
    },
    events::{MessageLikeEventType, receipt::ReceiptThread},
};
use serde_json::Value;

use super::{Call, Error, Intent, Repeat};
use crate::matrix::{canonical, rooms::raw};

/// An event that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its type.
    pub kind: String,
    /// Its content; [`super::content`] makes the usual ones.
    pub content: Value,
    /// By this the homeserver knows a repetition: the same id from the same user is the same event.
    pub transaction_id: OwnedTransactionId,
    /// When it was really sent, for history (`?ts=`); `None` is now.
    pub at: Option<MilliSecondsSinceUnixEpoch>,
}

// === impl Outgoing ===

impl Outgoing {
    /// An `m.room.message`.
    pub fn message(content: Value, transaction_id: &TransactionId) -> Self {
        Self::event("m.room.message", content, transaction_id)
    }

    /// An event of any type.
    pub fn event(kind: impl Into<String>, content: Value, transaction_id: &TransactionId) -> Self {
        Self { kind: kind.into(), content, transaction_id: transaction_id.to_owned(), at: None }
    }

    /// The same, sent at a time in the past.
    #[must_use]
    pub fn at(mut self, at: MilliSecondsSinceUnixEpoch) -> Self {
        self.at = Some(at);
        self
    }
}

// === impl Intent ===

impl Intent {
    /// Sends an event. A user who is not in the room joins it first, if need be by invitation of the bot.
    ///
    /// It is repeated only where the homeserver certainly did nothing: one that was killed has forgotten the transaction
    /// id, and would take a repetition for another event. Whoever gets an error that is temporary looks first whether
    /// the event is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send(&self, room: &RoomId, outgoing: &Outgoing) -> Result<OwnedEventId, Error> {
        let kind = MessageLikeEventType::from(outgoing.kind.as_str());
        let transaction_id = outgoing.transaction_id.clone();
        let body = raw(&canonical::content(&outgoing.content)?)?.cast_unchecked();
        let mut request = send_message_event::v3::Request::new_raw(room.to_owned(), transaction_id, kind, body);
        request.timestamp = outgoing.at;
        Ok(self.call_inside(room, request, Repeat::IfNotDone).await?.event_id)
    }

    /// Removes the content of an event. It is repeated as sending is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn redact(
        &self,
        room: &RoomId,
        event: &EventId,
        transaction_id: &TransactionId,
        reason: Option<&str>,
    ) -> Result<OwnedEventId, Error> {
        let (room_id, event_id) = (room.to_owned(), event.to_owned());
        let mut request = redact_event::v3::Request::new(room_id, event_id, transaction_id.to_owned());
        request.reason = reason.map(str::to_owned);
        Ok(self.call_inside(room, request, Repeat::IfNotDone).await?.event_id)
    }

    /// Says that the user has read up to an event (`m.read`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn mark_read(&self, room: &RoomId, event: &EventId) -> Result<(), Error> {
        let mut request = create_receipt::v3::Request::new(room.to_owned(), ReceiptType::Read, event.to_owned());
        request.thread = ReceiptThread::Unthreaded;
        self.call_inside(room, request, Repeat::Always).await.map(drop)
    }

    /// Says that the user is typing, for at most so long; `None`: no longer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn typing(&self, room: &RoomId, lasting: Option<Duration>) -> Result<(), Error> {
        let state = lasting.map_or(Typing::No, |lasting| Typing::Yes(TypingInfo::new(lasting)));
        let request = create_typing_event::v3::Request::new(self.user.clone(), room.to_owned(), state);
        self.call_inside(room, request, Repeat::Always).await.map(drop)
    }

    /// A call that only a member may make: where it is refused, the user joins and makes it once more.
    pub(super) async fn call_inside<R: Call>(
        &self,
        room: &RoomId,
        request: R,
        repeat: Repeat,
    ) -> Result<R::IncomingResponse, Error> {
        let known = self.homeserver.memory().is_joined(room, &self.user);
        let error = match self.call_with(request.clone(), repeat).await {
            Ok(response) => {
                self.homeserver.memory().joined(room, &self.user);
                return Ok(response);
            }
            Err(error) => error,
        };
        if !error.is_forbidden() {
            return Err(error);
        }
        // What was remembered may be old; where the user is in the room all the same, something else is forbidden.
        if known && matches!(self.membership(room, &self.user).await, Ok(super::Membership::Join)) {
            return Err(error);
        }
        self.homeserver.memory().left(room, &self.user);
        match self.ensure_joined(room, &[]).await {
            Ok(()) => self.call_with(request, repeat).await,
            Err(_) => Err(error),
        }
    }
}
