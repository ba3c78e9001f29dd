//! Who may call, and how much at a time. Decided from the headers, before any byte of a body is read.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::sync::Semaphore;

use super::{Limits, Refusal};
use crate::service::secrets::Secret;

/// When all places are taken, callers are told to come back after this many milliseconds.
const BUSY: u32 = 500;

/// The guard of all routes.
pub(super) struct Gate {
    hs_token: Secret,
    places: Semaphore,
    mistakes: Mutex<Allowance>,
}

// === impl Gate ===

impl Gate {
    pub(super) fn new(hs_token: Secret, limits: &Limits) -> Self {
        let mistakes = Mutex::new(Allowance::new(limits.wrong_credentials));
        Self { hs_token, places: Semaphore::new(limits.requests), mistakes }
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let problem = match presented(request) {
            None => Refusal::NO_TOKEN,
            Some(token) if self.hs_token.matches(&token) => return Ok(()),
            Some(_) => Refusal::WRONG_TOKEN,
        };
        // Guessing is hopeless, but it should not fill the log either.
        if !self.mistakes.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Err(Refusal::busy(1000));
        }
        tracing::warn!(path = request.uri().path(), "refused a call without the registration's hs_token");
        Err(problem)
    }
}

/// Lets a request through to its route, or answers it.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if let Err(refusal) = gate.check(&request) {
        return refusal.into_response();
    }
    match gate.places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => Refusal::busy(BUSY).into_response(),
    }
}

/// The token that a caller shows. The header wins; the query is legacy.
fn presented(request: &Request) -> Option<String> {
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let value = value.to_str().unwrap_or_default();
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        return Some(if scheme.eq_ignore_ascii_case("Bearer") { token.trim().to_owned() } else { String::new() });
    }
    super::queries::parameters(request.uri().query()).ok()?.remove("access_token")
}

/// So many at once, then one each second.
struct Allowance {
    most: u32,
    left: u32,
    counted_from: Instant,
}

// === impl Allowance ===

impl Allowance {
    fn new(most: u32) -> Self {
        Self { most, left: most, counted_from: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let seconds = u32::try_from(now.duration_since(self.counted_from).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.left = self.left.saturating_add(seconds).min(self.most);
            self.counted_from = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let mut allowance = Allowance::new(2);
        let start = allowance.counted_from;
        assert!(allowance.take(start) && allowance.take(start) && !allowance.take(start));
        let later = start + Duration::from_secs(1);
        assert!(allowance.take(later) && !allowance.take(later));
    }
}
