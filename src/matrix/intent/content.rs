//! Contents of the usual messages (Matrix specification, "Instant messaging", "Rich replies", "Event replacements",
//! "Annotations").

use ruma::{EventId, MxcUri};
use serde_json::{Value, json};

/// Plain text (`m.text`).
pub fn text(body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body })
}

/// Text with basic formatting: the HTML, and the same as plain text.
pub fn formatted(body: &str, html: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body, "format": "org.matrix.custom.html", "formatted_body": html })
}

/// What a program says (`m.notice`): other programs do not answer it.
pub fn notice(body: &str) -> Value {
    json!({ "msgtype": "m.notice", "body": body })
}

/// What is known of a file that was uploaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its content type.
    pub content_type: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Width and height in pixels, of images and films.
    pub dimensions: Option<(u32, u32)>,
}

/// A file: `m.image`, `m.video` or `m.audio` by its content type, else `m.file`.
pub fn file(uri: &MxcUri, file: &File) -> Value {
    let kind = match file.content_type.split('/').next() {
        Some("image") => "m.image",
        Some("video") => "m.video",
        Some("audio") => "m.audio",
        _ => "m.file",
    };
    let mut info = json!({ "mimetype": file.content_type });
    if let Some(size) = file.size {
        info["size"] = size.into();
    }
    if let Some((width, height)) = file.dimensions {
        info["w"] = width.into();
        info["h"] = height.into();
    }
    json!({ "msgtype": kind, "body": file.name, "filename": file.name, "url": uri, "info": info })
}

/// Makes a message an answer to an event.
#[must_use]
pub fn reply_to(mut content: Value, event: &EventId) -> Value {
    content["m.relates_to"] = json!({ "m.in_reply_to": { "event_id": event } });
    content
}

/// The content of a message that replaces an earlier one of the same sender. Old clients show it with a `*`.
pub fn edit_of(event: &EventId, new: Value) -> Value {
    let mut content = new.clone();
    for field in ["body", "formatted_body"] {
        if let Some(text) = content.get(field).and_then(Value::as_str) {
            content[field] = format!("* {text}").into();
        }
    }
    content["m.new_content"] = new;
    content["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": event });
    content
}

/// The content of an `m.reaction`.
pub fn reaction(event: &EventId, key: &str) -> Value {
    json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": key } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::{event_id, events::room::message::RoomMessageEventContent, mxc_uri};

    /// What ruma understands is what other programs understand.
    fn understood(content: Value) -> RoomMessageEventContent {
        let text = content.to_string();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn messages_are_what_others_expect() {
        assert_eq!(understood(text("hallo")).body(), "hallo");
        assert_eq!(understood(formatted("hallo", "<b>hallo</b>")).msgtype.msgtype(), "m.text");
        assert_eq!(understood(notice("hallo")).msgtype.msgtype(), "m.notice");
        assert!(understood(reply_to(text("ja"), event_id!("$a"))).relates_to.is_some());
    }

    #[test]
    fn an_edit_holds_the_new_content_twice() {
        let content = edit_of(event_id!("$a"), formatted("nieuw", "<i>nieuw</i>"));
        assert_eq!(content["body"], "* nieuw");
        assert_eq!(content["formatted_body"], "* <i>nieuw</i>");
        assert_eq!(content["m.new_content"]["body"], "nieuw");
        assert!(matches!(understood(content).relates_to, Some(ruma::events::room::message::Relation::Replacement(_))));
    }

    #[test]
    fn files_have_the_kind_of_their_type() {
        for (content_type, kind) in [
            ("image/png", "m.image"),
            ("video/mp4", "m.video"),
            ("audio/ogg", "m.audio"),
            ("application/pdf", "m.file"),
        ] {
            let described = File {
                name: "x".to_owned(),
                content_type: content_type.to_owned(),
                size: Some(7),
                dimensions: (kind == "m.image").then_some((3, 4)),
            };
            assert_eq!(understood(file(mxc_uri!("mxc://vvt/a"), &described)).msgtype.msgtype(), kind);
        }
    }
}
