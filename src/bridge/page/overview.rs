//! Health, queue and throughput at a glance.

use axum::response::Response;
use maud::{Markup, html};

use super::{
    compare,
    visit::{Mishap, Visit},
};
use crate::bridge::{
    store::{Side, now},
    words::Word,
};

/// `/`.
pub(super) async fn show(visit: Visit) -> Response {
    visit.answer(Word::Overview, content(&visit).await)
}

async fn content(visit: &Visit) -> Result<Markup, Mishap> {
    let t = |word| visit.language.say(word);
    let overview = visit.desk.engine.store().overview().await?;
    let queue = [
        (Word::ReadyForMatrix, overview.ready[0]),
        (Word::ReadyForFhir, overview.ready[1]),
        (Word::Waiting, overview.waiting),
        (Word::Parked, overview.parked),
    ];
    let carried = [
        (Word::RoomsLinked, overview.rooms),
        (Word::MessagesLinked, overview.messages),
        (Word::EventsTaken, overview.events),
    ];
    Ok(html! {
        h1 { (t(Word::Overview)) }
        section {
            h2 { (t(Word::Health)) }
            (health(visit))
        }
        section {
            h2 { (t(Word::Queue)) }
            dl.numbers {
                @for (word, count) in queue {
                    div.problem[word == Word::Parked && count > 0] { dt { (t(word)) } dd { (count) } }
                }
            }
            @if overview.parked > 0 { p { a href="/queue" { (t(Word::Held)) } } }
        }
        (compare::section(visit))
        section {
            h2 { (t(Word::Throughput)) }
            (visit.desk.pulse.graph(visit.language, now()))
            dl.numbers { @for (word, count) in carried { div { dt { (t(word)) } dd { (count) } } } }
        }
    })
}

/// Whether each side answers, and what it said last.
fn health(visit: &Visit) -> Markup {
    let t = |word| visit.language.say(word);
    let sides = [(Side::Matrix, Word::Homeserver), (Side::Fhir, Word::FhirServer)];
    html! {
        ul.health {
            @for (side, word) in sides {
                @match visit.desk.engine.presence(side).absence() {
                    None => li.good { strong { (t(word)) } " " (t(Word::Reachable)) },
                    Some(absence) => li.problem {
                        strong { (t(word)) } " "
                        (visit.language.say_with(Word::AwayFor, absence.since.elapsed().as_secs()))
                        p { (absence.reason) }
                    },
                }
            }
        }
    }
}
