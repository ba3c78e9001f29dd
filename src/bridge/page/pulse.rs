//! The bridge's numbers over time, and the stream that tells a page that something changed.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt as _, stream};
use maud::{Markup, html};
use tokio::sync::{Semaphore, watch};

use super::{Desk, visit::Visit};
use crate::bridge::{
    store::{Millis, Overview},
    words::{Language, Word},
};

/// Milliseconds of one step of the graph.
const STEP: Millis = 10_000;
/// Steps of the graph.
const STEPS: usize = 60;
/// Pages that may listen at the same time.
const LISTENERS: usize = 64;
/// A page hears of changes no more often than this.
const PAUSE: Duration = Duration::from_secs(1);
/// Sent where there is nothing to say, so that a connection that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Width and height of the graph.
const SIZE: (f64, f64) = (600.0, 120.0);

/// The numbers of the last minutes.
pub(super) struct Pulse {
    samples: Mutex<Samples>,
    changes: watch::Sender<u64>,
    listeners: Arc<Semaphore>,
}

#[derive(Default)]
struct Samples {
    last: Option<(Overview, [bool; 2])>,
    steps: VecDeque<Step>,
}

/// What happened in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Step {
    number: i64,
    events: u64,
    messages: u64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            samples: Mutex::default(),
            changes: watch::Sender::new(0),
            listeners: Arc::new(Semaphore::new(LISTENERS)),
        }
    }
}

// === impl Pulse ===

impl Pulse {
    /// Takes a sample.
    pub(super) fn note(&self, at: Millis, overview: &Overview, away: [bool; 2]) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (overview.clone(), away);
        if samples.last.as_ref() == Some(&now) {
            return;
        }
        if let Some((before, _)) = &samples.last {
            let step = Step {
                number: at.div_euclid(STEP),
                events: overview.events.saturating_sub(before.events),
                messages: overview.messages.saturating_sub(before.messages),
            };
            samples.add(step);
        }
        samples.last = Some(now);
        drop(samples);
        self.changes.send_modify(|number| *number += 1);
    }

    /// Tells the pages that something changed which is no number of the bridge.
    pub(super) fn ring(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// The last steps up to a moment, those in which nothing happened too.
    fn steps(&self, at: Millis) -> Vec<Step> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = at.div_euclid(STEP);
        let oldest = newest - i64::try_from(STEPS).unwrap_or(0) + 1;
        let found = |number| samples.steps.iter().find(|step| step.number == number).copied();
        (oldest..=newest).map(|number| found(number).unwrap_or(Step { number, ..Step::default() })).collect()
    }

    /// The graph of what was taken in and what was carried.
    pub(super) fn graph(&self, language: Language, at: Millis) -> Markup {
        let steps = self.steps(at);
        let most = steps.iter().map(|step| step.events.max(step.messages)).max().unwrap_or_default();
        let t = |word| language.say(word);
        let says = language.say_with(Word::ThroughputSays, most);
        let events: Vec<u64> = steps.iter().map(|step| step.events).collect();
        let messages: Vec<u64> = steps.iter().map(|step| step.messages).collect();
        let (width, height) = SIZE;
        html! {
            figure.graph {
                svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(says) preserveAspectRatio="none" {
                    polyline.events points=(points(&events, most)) {}
                    polyline.messages points=(points(&messages, most)) {}
                }
                figcaption {
                    (says) " "
                    span.key.events { (t(Word::EventsTaken)) ": " (events.iter().sum::<u64>()) } " "
                    span.key.messages { (t(Word::MessagesLinked)) ": " (messages.iter().sum::<u64>()) }
                }
            }
        }
    }
}

impl Samples {
    fn add(&mut self, step: Step) {
        match self.steps.back_mut() {
            Some(last) if last.number == step.number => {
                last.events += step.events;
                last.messages += step.messages;
            }
            _ => self.steps.push_back(step),
        }
        while self.steps.len() > STEPS {
            self.steps.pop_front();
        }
    }
}

/// A line through numbers, the highest at the top.
fn points(numbers: &[u64], most: u64) -> String {
    let (width, height) = SIZE;
    let across = width / numbers.len().saturating_sub(1).max(1) as f64;
    let up = |number: u64| height - 2.0 - (height - 4.0) * number as f64 / most.max(1) as f64;
    let place = |(index, number): (usize, &u64)| format!("{:.1},{:.1}", index as f64 * across, up(*number));
    numbers.iter().enumerate().map(place).collect::<Vec<_>>().join(" ")
}

/// Says that something changed, until the program stops.
pub(super) async fn stream(State(desk): State<Arc<Desk>>, _visit: Visit) -> Response {
    let Ok(permit) = Arc::clone(&desk.pulse.listeners).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let changes = desk.pulse.changes.subscribe();
    let told = stream::unfold((changes, permit), |(mut changes, permit)| async move {
        changes.changed().await.ok()?;
        let number = *changes.borrow_and_update();
        let event = Event::default().data(number.to_string());
        Some((Ok::<_, Infallible>(event), (changes, permit)))
    });
    let told = told.then(|event| async {
        tokio::time::sleep(PAUSE).await;
        event
    });
    let told = told.take_until(desk.stop.clone().cancelled_owned());
    Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(events: u64, messages: u64) -> Overview {
        Overview { events, messages, ..Overview::default() }
    }

    #[test]
    fn what_happened_stands_in_its_step() {
        let pulse = Pulse::default();
        // What was there at the start did not happen now.
        pulse.note(0, &overview(100, 50), [false; 2]);
        pulse.note(1000, &overview(103, 51), [false; 2]);
        pulse.note(9999, &overview(104, 51), [false; 2]);
        pulse.note(30_000, &overview(110, 60), [false; 2]);
        let steps = pulse.steps(30_000);
        assert_eq!(steps.len(), STEPS);
        let last: Vec<_> = steps.iter().rev().take(4).map(|step| (step.events, step.messages)).collect();
        assert_eq!(last, [(6, 9), (0, 0), (0, 0), (4, 1)]);
        assert!(pulse.graph(Language::English, 30_000).into_string().contains("Highest: 9."));
        // Ten minutes later it is gone.
        assert!(pulse.steps(700_000).iter().all(|step| step.events == 0));
    }

    #[test]
    fn pages_hear_of_changes_alone() {
        let pulse = Pulse::default();
        let changes = pulse.changes.subscribe();
        pulse.note(0, &overview(1, 1), [false; 2]);
        pulse.note(1, &overview(1, 1), [false; 2]);
        pulse.note(2, &overview(1, 1), [true, false]);
        assert_eq!(*changes.borrow(), 2);
    }

    #[test]
    fn a_line_stays_inside_its_picture() {
        assert_eq!(points(&[0, 5, 10], 10), "0.0,118.0 300.0,60.0 600.0,2.0");
        assert_eq!(points(&[0, 0], 0), "0.0,118.0 600.0,118.0");
    }
}
