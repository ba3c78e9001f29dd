//! Both sides of a conversation in rows: which message is which, and what only one side has.

use crate::bridge::{
    mapping::message::Visibility,
    store::{Millis, Role},
};

/// A message as FHIR has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InFhir {
    /// `Communication/1`.
    pub(super) key: String,
    pub(super) version: Option<String>,
    pub(super) status: String,
    pub(super) visibility: Visibility,
    /// Whether it says anything: a message with no payload has no event.
    pub(super) says_something: bool,
    /// A reference; `None` for somebody whom FHIR does not know.
    pub(super) sender: Option<String>,
    pub(super) at: Option<Millis>,
    /// What it says, for those who may see it.
    pub(super) texts: Vec<String>,
}

/// An event of the conversation's room.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InMatrix {
    pub(super) event_id: String,
    /// What it does to the message.
    pub(super) role: Role,
    /// Who sent it, as far as it may be shown.
    pub(super) sender: String,
    /// Whether the bridge sent it.
    pub(super) is_own: bool,
    /// Whether it was withdrawn.
    pub(super) is_redacted: bool,
    pub(super) at: Option<Millis>,
    /// What it says, for those who may see it.
    pub(super) text: Option<String>,
    /// The resource that it belongs to, as the bridge knows.
    pub(super) resource: Option<String>,
}

/// How the sides of a row stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Both have it.
    Both,
    /// FHIR has it and Matrix should.
    OnlyFhir,
    /// Matrix has it and FHIR should.
    OnlyMatrix,
    /// FHIR has it and its status keeps it out of Matrix.
    NotShown,
    /// The bridge says it of itself.
    Own,
    /// It was withdrawn before it was carried.
    Withdrawn,
    /// One side did not answer.
    NotAsked,
}

/// A message on both sides.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) state: State,
    pub(super) fhir: Option<InFhir>,
    pub(super) events: Vec<InMatrix>,
}

/// Which sides answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) fhir: bool,
    pub(super) matrix: bool,
}

/// The rows, newest first. An event and a resource stand in one row when the bridge knows that they are one message.
pub(super) fn align(fhir: Vec<InFhir>, events: Vec<InMatrix>, asked: Asked) -> Vec<Row> {
    let row = |fhir| Row { state: State::NotAsked, fhir, events: Vec::new() };
    let mut rows: Vec<Row> = fhir.into_iter().map(|message| row(Some(message))).collect();
    for event in events {
        let belongs = |row: &&mut Row| {
            let key = row.fhir.as_ref().map(|message| message.key.as_str());
            let known = key.or_else(|| row.events.first()?.resource.as_deref());
            known.is_some() && known == event.resource.as_deref()
        };
        match rows.iter_mut().find(belongs) {
            Some(row) => row.events.push(event),
            None => rows.push(Row { events: vec![event], ..row(None) }),
        }
    }
    for row in &mut rows {
        row.events.sort_by_key(|event| event.at);
        row.state = state(row, asked);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(at(row)));
    rows
}

/// When a message was sent: FHIR's word counts, because the event has it from there, or gave it.
pub(super) fn at(row: &Row) -> Option<Millis> {
    row.fhir.as_ref().and_then(|message| message.at).or_else(|| row.events.first()?.at)
}

fn state(row: &Row, asked: Asked) -> State {
    let said = row.events.iter().any(|event| event.role == Role::Message);
    match &row.fhir {
        Some(_) if said => State::Both,
        Some(message) if message.visibility != Visibility::Shown || !message.says_something => State::NotShown,
        Some(_) if !asked.matrix => State::NotAsked,
        Some(_) => State::OnlyFhir,
        None if row.events.iter().any(|event| event.resource.is_some()) => {
            if asked.fhir {
                State::OnlyMatrix
            } else {
                State::NotAsked
            }
        }
        None if row.events.iter().all(|event| event.is_own) => State::Own,
        None if row.events.iter().all(|event| event.is_redacted) => State::Withdrawn,
        None => State::OnlyMatrix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Asked = Asked { fhir: true, matrix: true };

    fn message(key: &str, at: i64, visibility: Visibility) -> InFhir {
        InFhir {
            key: key.to_owned(),
            version: None,
            status: String::new(),
            visibility,
            says_something: true,
            sender: None,
            at: Some(at),
            texts: Vec::new(),
        }
    }

    fn event(id: &str, at: i64, resource: Option<&str>) -> InMatrix {
        InMatrix {
            event_id: id.to_owned(),
            role: Role::Message,
            sender: String::new(),
            is_own: false,
            is_redacted: false,
            at: Some(at),
            text: None,
            resource: resource.map(str::to_owned),
        }
    }

    fn states(rows: &[Row]) -> Vec<(Option<i64>, State, usize)> {
        rows.iter().map(|row| (at(row), row.state, row.events.len())).collect()
    }

    #[test]
    fn what_belongs_together_stands_together() {
        let edit = InMatrix { role: Role::Edit, ..event("$edit", 9, Some("Communication/1")) };
        let rows = align(
            vec![message("Communication/2", 2, Visibility::Shown), message("Communication/1", 1, Visibility::Shown)],
            vec![edit, event("$2", 2, Some("Communication/2")), event("$1", 1, Some("Communication/1"))],
            ALL,
        );
        assert_eq!(states(&rows), [(Some(2), State::Both, 1), (Some(1), State::Both, 2)]);
        assert_eq!(rows[1].events[0].event_id, "$1");
    }

    #[test]
    fn what_one_side_lacks_is_told() {
        let rows = align(
            vec![message("Communication/1", 5, Visibility::Shown), message("Communication/2", 4, Visibility::Hidden)],
            vec![
                event("$3", 3, None),
                event("$lost", 2, Some("Communication/3")),
                InMatrix { is_own: true, ..event("$notice", 1, None) },
                InMatrix { is_redacted: true, ..event("$gone", 0, None) },
            ],
            ALL,
        );
        let expected = [
            (Some(5), State::OnlyFhir, 0),
            (Some(4), State::NotShown, 0),
            (Some(3), State::OnlyMatrix, 1),
            (Some(2), State::OnlyMatrix, 1),
            (Some(1), State::Own, 1),
            (Some(0), State::Withdrawn, 1),
        ];
        assert_eq!(states(&rows), expected);
    }

    #[test]
    fn a_side_that_does_not_answer_lacks_nothing() {
        let fhir = vec![message("Communication/1", 2, Visibility::Shown)];
        let rows = align(fhir, Vec::new(), Asked { matrix: false, ..ALL });
        assert_eq!(rows[0].state, State::NotAsked);
        let rows = align(Vec::new(), vec![event("$1", 1, Some("Communication/1"))], Asked { fhir: false, ..ALL });
        assert_eq!(rows[0].state, State::NotAsked);
    }

    #[test]
    fn an_edit_alone_is_no_message() {
        let edit = InMatrix { role: Role::Edit, ..event("$edit", 9, Some("Communication/1")) };
        let rows = align(vec![message("Communication/1", 1, Visibility::Shown)], vec![edit], ALL);
        assert_eq!(rows[0].state, State::OnlyFhir);
    }
}
