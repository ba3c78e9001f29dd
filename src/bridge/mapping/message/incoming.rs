//! From events to payloads.

use serde_json::Value;

use super::text_payload;
use crate::{bridge::mapping::markup, fhir::resources::Payload};

/// What an event means for FHIR.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A message.
    Message {
        /// What it says.
        said: Said,
        /// The event that it answers.
        reply_to: Option<String>,
    },
    /// New words for an earlier message.
    Edit {
        /// The message.
        of: String,
        /// What it says now.
        said: Said,
    },
    /// An event is withdrawn.
    Redaction {
        /// The event.
        of: String,
    },
    /// Nothing that FHIR knows: state, a part of a call that was announced already.
    Nothing,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Text.
    Text(Payload),
    /// A file.
    File(Media),
    /// Something that cannot be carried, and what can be said of it in its place.
    Missing {
        /// What it is, in words.
        what: String,
        /// What stands in its place.
        instead: Payload,
    },
}

/// A file in the homeserver's media store.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// Where it is, `mxc://server/id`.
    pub url: String,
    /// Its name.
    pub name: String,
    /// What its sender says it is.
    pub content_type: Option<String>,
    /// Text that was sent with it.
    pub caption: Option<Payload>,
}

/// Reads an event. `redacts` is what a redaction redacts, wherever the room version has it.
pub fn read(kind: &str, content: &Value, is_state: bool, redacts: Option<&str>) -> Incoming {
    if is_state {
        return Incoming::Nothing;
    }
    match kind {
        "m.room.message" => message(content),
        "m.room.redaction" => redacts.map_or(Incoming::Nothing, |of| Incoming::Redaction { of: of.to_owned() }),
        "m.reaction" => reaction(content),
        "m.room.encrypted" => missing("an encrypted message", None),
        "m.sticker" => missing("a sticker", text(content, "body")),
        "m.poll.start" | "org.matrix.msc3381.poll.start" => missing("a poll", poll_question(content)),
        "m.call.invite" => missing("a call", None),
        // The rest of what was announced with its first event, and what is for machines alone.
        _ if ["m.call.", "org.matrix.call.", "m.poll.", "org.matrix.msc3381.", "m.key.", "m.beacon"]
            .iter()
            .any(|prefix| kind.starts_with(prefix)) =>
        {
            Incoming::Nothing
        }
        _ => missing(&format!("an event of the type {kind}"), text(content, "body")),
    }
}

fn message(content: &Value) -> Incoming {
    let relation = content.get("m.relates_to");
    let related = |name: &str| relation?.get(name)?.as_str();
    if related("rel_type") == Some("m.replace") {
        // Without the new words it is no edit (Matrix specification, "Validity of replacement events").
        return match (related("event_id"), content.get("m.new_content")) {
            (Some(of), Some(new)) => Incoming::Edit { of: of.to_owned(), said: said(new, false) },
            _ => Incoming::Nothing,
        };
    }
    let reply_to = relation.and_then(answered).map(str::to_owned);
    let is_reply = relation.is_some_and(|relation| relation.get("m.in_reply_to").is_some());
    Incoming::Message { said: said(content, is_reply), reply_to }
}

/// The event that a message answers. In a thread that is the one at its beginning, unless somebody answers another one
/// there: what clients without threads are shown as an answer (`is_falling_back`) is only whatever came last.
fn answered(relation: &Value) -> Option<&str> {
    let reply = relation.get("m.in_reply_to").and_then(|reply| text(reply, "event_id"));
    let root = text(relation, "event_id").filter(|_| text(relation, "rel_type") == Some("m.thread"));
    let falls_back = relation.get("is_falling_back").and_then(Value::as_bool).unwrap_or_default();
    if falls_back { root.or(reply) } else { reply.or(root) }
}

fn said(content: &Value, is_reply: bool) -> Said {
    let body = text(content, "body").unwrap_or_default();
    let kind = content.get("msgtype").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "m.text" | "m.notice" | "m.server_notice" => words(content, body, is_reply),
        "m.emote" => words(content, &format!("* {body}"), is_reply),
        "m.location" => {
            let place = text(content, "geo_uri").unwrap_or_default();
            Said::Text(text_payload(format!("{body}\n{place}").trim(), None))
        }
        "m.file" | "m.image" | "m.audio" | "m.video" => file(content, body),
        // A redacted message has no content at all.
        "" if content.as_object().is_some_and(serde_json::Map::is_empty) => instead("a withdrawn message", None),
        _ => instead(&format!("a message of the type {kind}"), Some(body)),
    }
}

fn words(content: &Value, body: &str, is_reply: bool) -> Said {
    let body = if is_reply { without_quote(body) } else { body };
    let formatted = text(content, "formatted_body").map(markup::clean).unwrap_or_default();
    if formatted.had_images {
        return instead("a custom emoji", Some(body));
    }
    let has_markup = formatted.xhtml.contains('<');
    Said::Text(text_payload(body, has_markup.then_some(formatted.xhtml.as_str())))
}

/// A body without the quotation that older clients put before an answer (Matrix before 1.13, "Rich replies").
fn without_quote(body: &str) -> &str {
    if !body.starts_with("> <") {
        return body;
    }
    let mut rest = body;
    while let Some(line) = rest.strip_prefix('>') {
        rest = line.split_once('\n').map_or("", |(_, after)| after);
    }
    rest.strip_prefix('\n').unwrap_or(rest)
}

fn file(content: &Value, body: &str) -> Said {
    let Some(url) = text(content, "url") else {
        return instead("an encrypted file", Some(body));
    };
    let name = text(content, "filename").unwrap_or(body);
    let caption = (name != body).then(|| text_payload(body, None));
    let content_type = content.get("info").and_then(|info| text(info, "mimetype")).map(str::to_owned);
    Said::File(Media { url: url.to_owned(), name: name.to_owned(), content_type, caption })
}

fn reaction(content: &Value) -> Incoming {
    let relation = content.get("m.relates_to");
    let related = |name: &str| relation?.get(name)?.as_str();
    match (related("key"), related("event_id")) {
        (Some(key), Some(event_id)) => {
            let said = if key.starts_with("mxc://") {
                instead("a custom emoji", None)
            } else {
                Said::Text(text_payload(key, None))
            };
            Incoming::Message { said, reply_to: Some(event_id.to_owned()) }
        }
        _ => Incoming::Nothing,
    }
}

fn poll_question(content: &Value) -> Option<&str> {
    let poll = content.get("m.poll").or_else(|| content.get("org.matrix.msc3381.poll.start"))?.get("question")?;
    // One text, or as the specification has it now, the same text in several forms.
    let of_list = |name: &str| text(poll.get(name)?.get(0)?, "body");
    ["org.matrix.msc1767.text", "m.text"]
        .into_iter()
        .find_map(|name| text(poll, name).or_else(|| of_list(name)))
        .or_else(|| text(poll, "body"))
}

fn missing(what: &str, body: Option<&str>) -> Incoming {
    Incoming::Message { said: instead(what, body), reply_to: None }
}

/// What stands in the place of something that cannot be carried: its own fallback text where it has one.
fn instead(what: &str, body: Option<&str>) -> Said {
    let text = match body.filter(|body| !body.trim().is_empty()) {
        Some(body) => format!("[{what}] {body}"),
        None => format!("[{what}]"),
    };
    Said::Missing { what: what.to_owned(), instead: text_payload(&text, None) }
}

fn text<'a>(content: &'a Value, name: &str) -> Option<&'a str> {
    content.get(name)?.as_str()
}
