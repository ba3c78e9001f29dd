//! Both sides compared and repaired at the press of a button: one conversation, or everything in the background.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use futures_util::{StreamExt as _, stream};
use maud::{Markup, html};
use tracing::{info, warn};

use super::{
    Desk,
    layout::{link, time},
    visit::{Form, Mishap, Visit},
};
use crate::{
    bridge::{
        engine::{Difference, Report},
        identity::{Instance, Kind},
        mapping::message,
        store::{Millis, now},
        words::Word,
    },
    fhir::{resources::ResourceType, server::FhirError},
};

/// Comparisons that are remembered.
const REMEMBERED: usize = 20;
/// Conversations that are compared at the same time. Of everything there is one comparison at a time.
const AT_ONCE: usize = 4;
/// Differences that are shown, and kept.
const SHOWN: usize = 50;
/// Time that whoever compares one conversation waits for the page.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time after which a comparison ends, wherever it is.
const LONGEST: Duration = Duration::from_secs(3600);
/// Differences that are looked at again at the same time.
const ASKING: usize = 8;

/// The comparisons of this process, newest first.
#[derive(Default)]
pub(super) struct Comparisons(Mutex<Known>);

#[derive(Default)]
struct Known {
    begun: u64,
    all: VecDeque<Comparison>,
}

/// One comparison: how far it is, or what it found.
#[derive(Clone, Debug)]
struct Comparison {
    number: u64,
    /// The conversation; everything without one.
    of: Option<String>,
    begun: Millis,
    ended: Option<Millis>,
    /// Conversations that were compared, and that are to be.
    progress: (usize, usize),
    equal: usize,
    found: usize,
    /// The first of what was found.
    differences: Vec<Difference>,
    /// Why it did not come to its end.
    trouble: Option<String>,
}

/// What came of asking for a comparison.
enum Start {
    /// It begins now.
    New(u64),
    /// The same is being compared already.
    Running(u64),
    /// Too much is being compared.
    Busy,
}

// === impl Comparisons ===

impl Comparisons {
    fn start(&self, of: Option<&str>) -> Start {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = || known.all.iter().filter(|one| one.ended.is_none());
        if let Some(same) = running().find(|one| one.of.as_deref() == of) {
            return Start::Running(same.number);
        }
        if of.is_some() && running().filter(|one| one.of.is_some()).count() >= AT_ONCE {
            return Start::Busy;
        }
        known.begun += 1;
        let comparison = Comparison {
            number: known.begun,
            of: of.map(str::to_owned),
            begun: now(),
            ended: None,
            progress: (0, 0),
            equal: 0,
            found: 0,
            differences: Vec::new(),
            trouble: None,
        };
        known.all.push_front(comparison);
        // The newest are kept, and whatever is not at its end.
        let mut place = 0;
        known.all.retain(|one| {
            place += 1;
            place <= REMEMBERED || one.ended.is_none()
        });
        Start::New(known.begun)
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Comparison)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = known.all.iter_mut().find(|one| one.number == number) {
            change(one);
        }
    }

    fn get(&self, number: u64) -> Option<Comparison> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.all.iter().find(|one| one.number == number).cloned()
    }

    /// The newest comparison of everything.
    fn newest_of_all(&self) -> Option<Comparison> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.all.iter().find(|one| one.of.is_none()).cloned()
    }
}

// === impl Comparison ===

impl Comparison {
    fn note(&mut self, report: &Report, total: usize) {
        self.progress = (report.conversations, total);
        self.equal = report.equal;
        self.found = report.differences.len();
        if self.differences.len() < SHOWN {
            self.differences = report.differences.iter().take(SHOWN).cloned().collect();
        }
    }
}

/// `POST /threads/{id}/compare`.
pub(super) async fn thread(
    State(desk): State<Arc<Desk>>,
    visit: Visit,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    match Instance::new(Kind::CommunicationRequest, id) {
        Ok(place) => begin(desk, &visit, Some(place.to_string()), &body).await,
        Err(_) => visit.answer(Word::Comparison, Err(Mishap::NotFound)),
    }
}

/// `POST /comparisons`: everything.
pub(super) async fn everything(State(desk): State<Arc<Desk>>, visit: Visit, body: Bytes) -> Response {
    begin(desk, &visit, None, &body).await
}

async fn begin(desk: Arc<Desk>, visit: &Visit, of: Option<String>, body: &[u8]) -> Response {
    if Form::read(visit, body).is_none() {
        return visit.refuse_foreign();
    }
    if !visit.viewer.may_retry {
        return visit.refuse(StatusCode::FORBIDDEN, Word::CompareNeedsToken);
    }
    let number = match desk.comparisons.start(of.as_deref()) {
        Start::Running(number) => number,
        Start::Busy => return visit.refuse(StatusCode::SERVICE_UNAVAILABLE, Word::CompareBusy),
        Start::New(number) => {
            info!(viewer = visit.viewer.name, of, "both sides are compared from the web page");
            let is_short = of.is_some();
            let comparing = tokio::spawn(compare(desk, number, of));
            if is_short {
                // Whoever has no scripts sees what was found at once.
                let _ = tokio::time::timeout(PATIENCE, comparing).await;
            }
            number
        }
    };
    Redirect::to(&format!("/comparisons/{number}")).into_response()
}

async fn compare(desk: Arc<Desk>, number: u64, of: Option<String>) {
    let tell = |report: &Report, total| {
        desk.comparisons.change(number, |one| one.note(report, total));
        desk.pulse.ring();
    };
    let comparing = tokio::time::timeout(LONGEST, desk.engine.reconcile_telling(of.as_deref(), true, &tell));
    let trouble = tokio::select! {
        () = desk.stop.cancelled() => Some("the bridge stops".to_owned()),
        outcome = comparing => match outcome {
            Ok(Ok(_)) => None,
            Ok(Err(trouble)) => Some(trouble.to_string()),
            Err(_) => Some(format!("not done within {} s", LONGEST.as_secs())),
        },
    };
    if let Some(trouble) = &trouble {
        warn!(of, trouble, "a comparison did not come to its end");
    }
    desk.comparisons.change(number, |one| (one.ended, one.trouble) = (Some(now()), trouble));
    desk.pulse.ring();
}

/// `GET /comparisons/{number}`.
pub(super) async fn show(visit: Visit, Path(number): Path<u64>) -> Response {
    let content = match visit.desk.comparisons.get(number) {
        Some(comparison) => Ok(content(&visit, &comparison).await),
        None => Err(Mishap::NotFound),
    };
    visit.answer(Word::Comparison, content)
}

async fn content(visit: &Visit, comparison: &Comparison) -> Markup {
    let t = |word| visit.language.say(word);
    let asked = comparison.differences.clone().into_iter().map(|one| async move { is_repaired(visit, &one).await });
    let repaired: Vec<bool> = stream::iter(asked).buffered(ASKING).collect().await;
    let (done, total) = comparison.progress;
    let hidden = comparison.found.saturating_sub(comparison.differences.len());
    html! {
        h1 { (t(Word::Comparison)) }
        dl.facts {
            dt { (t(Word::Compared)) }
            dd { @match &comparison.of { Some(of) => (link(of)), None => (t(Word::Everything)) } }
            dt { (t(Word::Status)) } dd #progress role="status" { (state(visit, comparison)) }
            dt { (t(Word::Threads)) } dd { (done) @if comparison.ended.is_none() && total > 0 { " / " (total) } }
            dt { (t(Word::OnBoth)) } dd { (comparison.equal) }
            dt { (t(Word::Begun)) } dd { (time(Some(comparison.begun))) }
            @if comparison.ended.is_some() { dt { (t(Word::Ended)) } dd { (time(comparison.ended)) } }
        }
        @if comparison.ended.is_none() && total > 0 {
            progress max=(total) value=(done) aria-label=(t(Word::Comparison)) {}
        }
        @if let Some(trouble) = &comparison.trouble {
            p.problem role="alert" { (visit.language.say_with(Word::Unreadable, trouble)) }
        }
        section {
            h2 { (visit.language.say_with(Word::FoundDifferences, comparison.found)) }
            @if !comparison.differences.is_empty() {
                (difference_table(visit, &comparison.differences, &repaired))
                p { (t(Word::RepairSays)) " " a href="/queue" { (t(Word::Work)) } }
            }
            @if hidden > 0 { p.muted { (visit.language.say_with(Word::NotListed, hidden)) } }
        }
    }
}

fn state(visit: &Visit, comparison: &Comparison) -> &'static str {
    visit.language.say(match (comparison.ended, &comparison.trouble) {
        (None, _) => Word::Comparing,
        (Some(_), None) => Word::ComparedWhole,
        (Some(_), Some(_)) => Word::ComparedInPart,
    })
}

fn difference_table(visit: &Visit, differences: &[Difference], repaired: &[bool]) -> Markup {
    let t = |word| visit.language.say(word);
    html! {
        div.table { table {
            thead { tr {
                @for word in [Word::Difference, Word::Identifier, Word::Repair] { th scope="col" { (t(word)) } }
            } }
            tbody { @for (difference, repaired) in differences.iter().zip(repaired) { tr.problem[!repaired] {
                th scope="row" { (t(word(difference))) }
                td { @match difference {
                    Difference::NoRoom { resource } | Difference::NotInMatrix { resource } => (link(resource)),
                    Difference::NotInFhir { event_id, .. } => code.id { (event_id) },
                } }
                td { (t(if *repaired { Word::Repaired } else { Word::PutToWork })) }
            } } }
        } }
    }
}

fn word(difference: &Difference) -> Word {
    match difference {
        Difference::NoRoom { .. } => Word::NoRoom,
        Difference::NotInMatrix { .. } => Word::OnlyFhir,
        Difference::NotInFhir { .. } => Word::OnlyMatrix,
    }
}

/// Whether a difference is there no longer. What cannot be asked now is not said to be repaired.
async fn is_repaired(visit: &Visit, difference: &Difference) -> bool {
    let engine = &visit.desk.engine;
    match difference {
        Difference::NoRoom { resource } => matches!(engine.store().room_of(resource).await, Ok(Some(_))),
        Difference::NotInMatrix { resource } => {
            engine.store().messages_of(resource).await.is_ok_and(|events| !events.is_empty())
        }
        Difference::NotInFhir { event_id, .. } => {
            let Ok(id) = message::communication_id(event_id).parse() else { return false };
            if engine.fhir().read(ResourceType::Communication, &id).await.is_ok() {
                return true;
            }
            // A server that gives ids itself: found by the event.
            let of_event = crate::fhir::query::Query::identifier(crate::bridge::mapping::EVENT_ID, event_id);
            let found: Result<_, FhirError> = engine.fhir().search(ResourceType::Communication, &of_event).await;
            found.is_ok_and(|page| page.matches().next().is_some())
        }
    }
}

/// The button that compares one conversation, or everything, for those who may.
pub(super) fn button(visit: &Visit, of: Option<&Instance>) -> Markup {
    let (action, label) = match of {
        Some(place) => (format!("/threads/{}/compare", place.id()), Word::CompareThread),
        None => ("/comparisons".to_owned(), Word::CompareAll),
    };
    html! {
        @if visit.viewer.may_retry {
            form method="post" action=(action) { (visit.mark()) button #compare { (visit.language.say(label)) } }
        } @else {
            p { (visit.language.say(Word::CompareNeedsToken)) }
        }
    }
}

/// Comparing everything, on the overview: the button, and how far it is.
pub(super) fn section(visit: &Visit) -> Markup {
    let t = |word| visit.language.say(word);
    let newest = visit.desk.comparisons.newest_of_all();
    html! {
        section {
            h2 { (t(Word::Comparison)) }
            @if let Some(newest) = &newest {
                p {
                    a href=(format!("/comparisons/{}", newest.number)) { (state(visit, newest)) }
                    " (" (newest.progress.0) @if newest.ended.is_none() { " / " (newest.progress.1) } ") "
                    (visit.language.say_with(Word::FoundDifferences, newest.found))
                }
            }
            @if newest.is_none_or(|newest| newest.ended.is_some()) { (button(visit, None)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_bounded_and_the_same_is_not_compared_twice_at_once() {
        let all = Comparisons::default();
        assert!(matches!(all.start(None), Start::New(1)) && matches!(all.start(None), Start::Running(1)));
        for number in 0..AT_ONCE {
            assert!(matches!(all.start(Some(&number.to_string())), Start::New(_)));
        }
        assert!(matches!(all.start(Some("more")), Start::Busy) && matches!(all.start(Some("0")), Start::Running(2)));
        for number in 2..=5 {
            all.change(number, |one| one.ended = Some(1));
        }
        for number in 0..100 {
            let Start::New(begun) = all.start(Some(&number.to_string())) else { panic!("{number}") };
            all.change(begun, |one| one.ended = Some(1));
        }
        assert_eq!(all.0.lock().unwrap().all.len(), REMEMBERED + 1, "and the one that is not at its end");
        assert!(all.get(1).is_some_and(|one| one.ended.is_none()) && all.get(2).is_none());
        assert_eq!(all.newest_of_all().unwrap().number, 1);
    }

    #[test]
    fn what_is_kept_of_a_report_is_bounded() {
        let all = Comparisons::default();
        assert!(matches!(all.start(None), Start::New(1)));
        let difference = |number: usize| Difference::NotInMatrix { resource: format!("Communication/{number}") };
        let report =
            Report { conversations: 3, equal: 5, differences: (0..200).map(difference).collect(), repaired: true };
        all.change(1, |one| one.note(&report, 9));
        let one = all.get(1).unwrap();
        assert_eq!((one.progress, one.equal, one.found, one.differences.len()), ((3, 9), 5, 200, SHOWN));
    }
}
