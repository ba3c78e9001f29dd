//! The bot: what people ask of the bridge in a room, understood; what it does about it is the engine's.
//!
//! In any room that the bridge is in, a message that begins with `!fhir` is a command; in a direct chat every message
//! is. A command is answered in the language of its word, and what is not understood in both. Commands are no messages
//! of a conversation: they are not carried to FHIR, and neither are answers, which are the bridge's own notices.

use serde_json::Value;

use super::{
    identity::{Instance, Kind},
    words::{Language, Word},
};
use crate::matrix::Event;

/// What a command begins with, where people speak with each other.
pub const PREFIX: &str = "!fhir";
/// The key in an answer's content that names the event that it answers: by it the bridge knows that it answered.
pub const MARK: &str = "care-federation.answer";

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The language of the word; `None` where it was not understood.
    pub language: Option<Language>,
    /// What is to be done.
    pub order: Order,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Say what can be asked.
    Help,
    /// Say how bridge and room are.
    Status,
    /// Say who the members of the room are in FHIR.
    Who,
    /// Let the room stand for a team or a conversation; `None` where none was named.
    Link(Option<Instance>),
    /// Let the room stand for nothing.
    Unlink,
    /// Do parked work of the room again.
    Retry,
    /// Nothing that the bot knows.
    Unknown,
}

// === impl Command ===

impl Command {
    /// Reads what stands behind the prefix.
    pub fn read(words: &str) -> Self {
        let mut words = words.split_whitespace();
        let word = words.next().unwrap_or_default().to_lowercase();
        let mut place = || {
            let named = words.next().and_then(|named| Instance::parse(named).ok());
            named.filter(|place| matches!(place.kind(), Kind::CareTeam | Kind::CommunicationRequest))
        };
        let (language, order) = match word.trim_matches(|letter: char| !letter.is_alphanumeric()) {
            "help" => (Language::English, Order::Help),
            "hulp" => (Language::Dutch, Order::Help),
            "status" => (Language::English, Order::Status),
            "stand" => (Language::Dutch, Order::Status),
            "who" => (Language::English, Order::Who),
            "wie" => (Language::Dutch, Order::Who),
            "link" => (Language::English, Order::Link(place())),
            "koppel" => (Language::Dutch, Order::Link(place())),
            "unlink" => (Language::English, Order::Unlink),
            "ontkoppel" => (Language::Dutch, Order::Unlink),
            "retry" => (Language::English, Order::Retry),
            "opnieuw" => (Language::Dutch, Order::Retry),
            "" => return Self { language: None, order: Order::Help },
            _ => return Self { language: None, order: Order::Unknown },
        };
        Self { language: Some(language), order }
    }

    /// A text in the command's language, or in both.
    pub fn say(&self, text: impl Fn(Language) -> String) -> String {
        match self.language {
            Some(language) => text(language),
            None => format!("{}\n\n{}", text(Language::Dutch), text(Language::English)),
        }
    }

    /// A word in the command's language, or in both.
    pub fn say_word(&self, word: Word, value: impl std::fmt::Display) -> String {
        self.say(|language| language.say_with(word, &value))
    }
}

/// What somebody said in words of their own: the body of an `m.text` that replaces nothing. Other programs speak in
/// notices, and are not answered.
pub fn said(content: &Value) -> Option<&str> {
    let relation = content.get("m.relates_to").and_then(|relation| relation.get("rel_type"));
    let is_text = content.get("msgtype").is_some_and(|kind| kind == "m.text");
    let is_edit = relation.is_some_and(|kind| kind == "m.replace");
    content.get("body")?.as_str().filter(|_| is_text && !is_edit)
}

/// What is said to the bot: what stands behind the prefix.
pub fn addressed(content: &Value) -> Option<&str> {
    behind_prefix(said(content)?)
}

/// Whether an event is a command, or new words for one.
pub fn is_command(event: &Event) -> bool {
    // Most messages are none, and need no second look.
    if !event.json().contains(PREFIX) {
        return false;
    }
    let content: Value = event.content().unwrap_or_default();
    let is_text = content.get("msgtype").is_some_and(|kind| kind == "m.text");
    let edited = content.get("m.new_content").unwrap_or(&content).get("body").and_then(Value::as_str);
    is_text && edited.is_some_and(|body| behind_prefix(body).is_some())
}

fn behind_prefix(text: &str) -> Option<&str> {
    let rest = text.trim_start().strip_prefix(PREFIX)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn commands_are_read_in_both_languages() {
        let team = Instance::parse("CareTeam/Team-1").unwrap();
        for (words, language, order) in [
            ("help", Some(Language::English), Order::Help),
            ("Hulp!", Some(Language::Dutch), Order::Help),
            ("WIE", Some(Language::Dutch), Order::Who),
            ("link CareTeam/Team-1", Some(Language::English), Order::Link(Some(team))),
            ("koppel Patient/1", Some(Language::Dutch), Order::Link(None)),
            ("koppel", Some(Language::Dutch), Order::Link(None)),
            ("ontkoppel nu", Some(Language::Dutch), Order::Unlink),
            ("opnieuw", Some(Language::Dutch), Order::Retry),
            ("", None, Order::Help),
            ("dans", None, Order::Unknown),
        ] {
            assert_eq!(Command::read(words), Command { language, order }, "{words}");
        }
        let both = Command::read("dans").say_word(Word::BotUnknown, "");
        assert!(both.contains("begrijp") && both.contains("understand"), "{both}");
    }

    #[test]
    fn only_what_is_said_to_the_bot_is_a_command() {
        let text = |body: &str| json!({ "msgtype": "m.text", "body": body });
        assert_eq!(addressed(&text(" !fhir  status ")), Some("status"));
        assert_eq!(addressed(&text("!fhir")), Some(""));
        for body in ["!fhirbridge", "zeg !fhir help", "fhir help"] {
            assert_eq!(addressed(&text(body)), None, "{body}");
        }
        assert_eq!(addressed(&json!({ "msgtype": "m.notice", "body": "!fhir help" })), None);
        let edit = json!({ "msgtype": "m.text", "body": "!fhir help", "m.relates_to": { "rel_type": "m.replace" } });
        assert_eq!(addressed(&edit), None);
    }

    #[test]
    fn a_command_is_known_by_its_event() {
        let event = |content: Value| {
            let event = json!({ "type": "m.room.message", "event_id": "$1", "room_id": "!1", "sender": "@a:b",
                "origin_server_ts": 1, "content": content });
            is_command(&Event::from_json(event.to_string()).unwrap())
        };
        assert!(event(json!({ "msgtype": "m.text", "body": "!fhir who" })));
        let edited = json!({ "msgtype": "m.text", "body": "* x", "m.new_content": { "body": "!fhir wie" } });
        assert!(event(edited));
        assert!(!event(json!({ "msgtype": "m.text", "body": "Wat doet !fhir?" })));
        assert!(!event(json!({ "msgtype": "m.notice", "body": "!fhir who" })));
    }
}
