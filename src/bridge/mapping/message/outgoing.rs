//! From payloads to events.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{LONGEST_TEXT, RENDERING, shortened};
use crate::{
    bridge::mapping::markup,
    fhir::resources::{Attachment, Payload},
};

/// Longest name of a file, in characters.
const LONGEST_NAME: usize = 200;

/// An event that is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The content of `m.room.message`. With an upload, `url` is still to be filled in.
    pub content: Map<String, Value>,
    /// The file that has to be uploaded first.
    pub upload: Option<Upload>,
}

/// A file to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The media type.
    pub content_type: String,
    /// The file's name.
    pub name: String,
}

/// The events of a message, one for each payload, in order. A payload that says nothing has no event.
pub fn outgoing(payload: &[Payload]) -> Vec<Outgoing> {
    payload.iter().filter_map(one).collect()
}

fn one(payload: &Payload) -> Option<Outgoing> {
    if let Some(text) = &payload.content_string {
        return Some(of_text(text, rendering(payload)));
    }
    if let Some(attachment) = &payload.content_attachment {
        return Some(of_attachment(attachment));
    }
    let reference = payload.content_reference.as_ref()?;
    // A resource cannot be shown; who may read it in FHIR finds it there. Its display may name the patient, but a
    // message is where patient data belongs.
    let label = reference.display.as_deref().or(reference.reference.as_deref()).unwrap_or("…");
    Some(of_text(&format!("→ {label}"), None))
}

fn rendering(payload: &Payload) -> Option<&str> {
    let extensions = payload.rest.get("_contentString")?.get("extension")?.as_array()?;
    let of_rendering = extensions.iter().find(|extension| extension.get("url").is_some_and(|url| url == RENDERING))?;
    of_rendering.get("valueString")?.as_str()
}

fn of_text(text: &str, xhtml: Option<&str>) -> Outgoing {
    if written(text) + xhtml.map_or(0, written) > LONGEST_TEXT {
        let upload = Upload {
            bytes: text.into(),
            content_type: "text/plain; charset=utf-8".to_owned(),
            name: "bericht.txt".to_owned(),
        };
        return of_upload(upload);
    }
    let mut content = Map::from_iter([("msgtype".to_owned(), json!("m.text")), ("body".to_owned(), json!(text))]);
    if let Some(xhtml) = xhtml {
        content.insert("format".to_owned(), json!("org.matrix.custom.html"));
        content.insert("formatted_body".to_owned(), json!(markup::clean(xhtml).xhtml));
    }
    Outgoing { content, upload: None }
}

/// How long a text is as JSON: quotes and control characters take more than they are.
fn written(text: &str) -> usize {
    json!(text).to_string().len()
}

/// What stands in the place of a file that cannot be passed on.
pub fn not_passed_on(name: &str, why: &str) -> Map<String, Value> {
    let text = format!("{name}\nDit bestand is niet doorgegeven. / This file was not passed on: {why}.");
    of_text(&text, None).content
}

fn of_attachment(attachment: &Attachment) -> Outgoing {
    let name = shortened(attachment.title.as_deref().unwrap_or("bijlage"), LONGEST_NAME);
    let bytes = attachment.data.as_deref().and_then(|data| STANDARD.decode(without_white_space(data)).ok());
    match bytes {
        Some(bytes) => {
            let content_type = attachment.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
            of_upload(Upload { bytes, content_type, name })
        }
        // What lies elsewhere is not fetched: the address is the sender's word, and may lead anywhere.
        None => match &attachment.url {
            Some(url) => of_text(&format!("{name}\n{url}"), None),
            None => of_text(&format!("{name} (geen inhoud)"), None),
        },
    }
}

/// FHIR's `base64Binary` may hold white space (R4, 2.24.0.1).
fn without_white_space(data: &str) -> String {
    data.chars().filter(|character| !character.is_ascii_whitespace()).collect()
}

fn of_upload(upload: Upload) -> Outgoing {
    let kind = match upload.content_type.split('/').next() {
        Some("image") => "m.image",
        Some("audio") => "m.audio",
        Some("video") => "m.video",
        _ => "m.file",
    };
    let content = Map::from_iter([
        ("msgtype".to_owned(), json!(kind)),
        ("body".to_owned(), json!(upload.name)),
        ("filename".to_owned(), json!(upload.name)),
        ("info".to_owned(), json!({ "mimetype": upload.content_type, "size": upload.bytes.len() })),
    ]);
    Outgoing { content, upload: Some(upload) }
}
