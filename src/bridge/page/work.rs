//! Lanes at work, what is parked or waits, and putting it back.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use maud::{Markup, html};
use tracing::info;

use super::{
    Desk,
    layout::{link, nothing, time},
    visit::{Form, Mishap, Visit},
};
use crate::bridge::{
    store::{self, Held, Lane},
    words::Word,
};

/// Lanes that are shown.
const LANES: usize = 25;
/// Parked and waiting work on a page.
const HELD: usize = 25;

/// `/queue`.
pub(super) async fn show(visit: Visit) -> Response {
    visit.answer(Word::Work, content(&visit).await)
}

async fn content(visit: &Visit) -> Result<Markup, Mishap> {
    let t = |word| visit.language.say(word);
    let store = visit.desk.engine.store();
    let after = visit.place::<i64>()?.unwrap_or(0);
    let lanes = store.lanes(LANES).await?;
    let mut held = store.held_after(None, after, HELD + 1).await?;
    let more = held.len() > HELD;
    held.truncate(HELD);
    let next = held.last().map(|last| last.seq).filter(|_| more);
    let parked = store.overview().await?.parked;
    Ok(html! {
        h1 { (t(Word::Work)) }
        section {
            h2 { (t(Word::Held)) }
            (held_table(visit, &held, "/queue"))
            (visit.turn(next))
            @if parked > 0 { (retry_all(visit, parked)) }
        }
        section {
            h2 { (t(Word::InOrder)) }
            p { (t(Word::LanesSay)) }
            (lane_table(visit, &lanes))
        }
    })
}

/// Parked and waiting work, each piece with its button. `back` is the page to come back to.
pub(super) fn held_table(visit: &Visit, held: &[Held], back: &str) -> Markup {
    let t = |word| visit.language.say(word);
    html! {
        @if held.is_empty() { (nothing(visit)) } @else {
            div.table { table {
                thead { tr {
                    @for word in [Word::Identifier, Word::Status, Word::Kind, Word::Lane, Word::Reason, Word::Tries] {
                        th scope="col" { (t(word)) }
                    }
                    @if visit.viewer.may_retry { th scope="col" { (t(Word::Retry)) } }
                } }
                tbody { @for work in held { tr.problem[work.parked] {
                    th scope="row" { (work.seq) }
                    td { (t(if work.parked { Word::Parked } else { Word::Waiting })) }
                    td { (work.kind) }
                    td { (link(&work.lane)) }
                    td { (work.reason) }
                    td { (work.attempts) }
                    @if visit.viewer.may_retry { td { @if work.parked { (retry_one(visit, work.seq, back)) } } }
                } } }
            } }
            @if !visit.viewer.may_retry { p { (t(Word::RetryNeedsToken)) } }
        }
    }
}

fn retry_one(visit: &Visit, number: i64, back: &str) -> Markup {
    html! {
        form method="post" action="/queue/retry" {
            (visit.mark())
            input type="hidden" name="number" value=(number);
            input type="hidden" name="back" value=(back);
            button id=(format!("retry-{number}")) aria-label=(visit.language.say_with(Word::RetryNumber, number)) {
                (visit.language.say(Word::Retry))
            }
        }
    }
}

fn retry_all(visit: &Visit, parked: u64) -> Markup {
    html! {
        @if visit.viewer.may_retry {
            form method="post" action="/queue/retry" {
                (visit.mark())
                button #retry-all { (visit.language.say(Word::RetryAll)) " (" (parked) ")" }
            }
        }
    }
}

fn lane_table(visit: &Visit, lanes: &[Lane]) -> Markup {
    let t = |word| visit.language.say(word);
    let now = store::now();
    html! {
        @if lanes.is_empty() { (nothing(visit)) } @else {
            div.table { table {
                thead { tr {
                    @for word in [Word::Lane, Word::Side, Word::Ready, Word::AtHead, Word::Tries, Word::NextTry] {
                        th scope="col" { (t(word)) }
                    }
                } }
                tbody { @for lane in lanes { tr {
                    th scope="row" { (link(&lane.name)) }
                    td { (lane.side.name()) }
                    td { (lane.ready) }
                    td { (lane.kind) }
                    td { (lane.attempts) }
                    td { @if lane.leased { (t(Word::BeingDone)) } @else if lane.due <= now { (t(Word::Now)) } @else { (time(Some(lane.due))) } }
                } } }
            } }
        }
    }
}

/// `POST /queue/retry`: one piece of parked work by its `number`, or all of it.
pub(super) async fn retry(State(desk): State<Arc<Desk>>, visit: Visit, body: Bytes) -> Response {
    let Some(form) = Form::read(&visit, &body) else { return visit.refuse_foreign() };
    if !visit.viewer.may_retry {
        return visit.refuse(StatusCode::FORBIDDEN, Word::RetryNeedsToken);
    }
    let numbers = match form.get("number").map(str::parse::<i64>).transpose() {
        Ok(number) => number.map(|number| vec![number]),
        Err(_) => return visit.refuse(StatusCode::BAD_REQUEST, Word::NotFound),
    };
    info!(viewer = visit.viewer.name, ?numbers, "parked work is put back from the web page");
    if let Err(error) = desk.engine.retry(numbers.as_deref()).await {
        return visit.answer(Word::Work, Err(error.into()));
    }
    // Back to the page it came from, which is one of this site.
    let back = form.get("back").filter(|back| back.starts_with("/threads/")).unwrap_or("/queue");
    Redirect::to(back).into_response()
}
