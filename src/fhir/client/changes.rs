//! What changed on a server that is not ours: looked for by time, with an overlap, because a server's clock is when
//! it began to write, not when others can see it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Client, settings::ChangesBy};
use crate::fhir::{
    instant::{DateTime, Moments, now_micros},
    query::Query,
    resources::{Resource, ResourceType},
    server::{Changes, Cursor, FhirError, FhirServer as _, HistoryOf, Page},
};

/// So far back every look reaches, in microseconds: longer than a server takes between stamping and committing.
const OVERLAP: i64 = 10_000_000;
/// Entries that are asked for on a page.
const PAGE: u32 = 200;
/// Entries that are asked for at most, where a server gives no links to pages.
const LARGEST_PAGE: u32 = 12_800;
/// Changes of one type that are held in memory at most, where the server gives the newest first.
const MOST_HELD: usize = 50_000;

/// How far each type was read.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress(BTreeMap<String, Mark>);

/// How far one type was read. Moments are microseconds since 1970, of the server's clock unless said.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Mark {
    /// The newest moment that was seen.
    at: i64,
    /// Nothing before this moment can still appear.
    floor: i64,
    /// When, by our own clock, `at` moved last.
    moved: i64,
    /// Whether the last look stopped before its end.
    reading: bool,
    /// What was seen within the overlap: `id/version` and its moment.
    seen: BTreeMap<String, i64>,
}

// === impl Mark ===

impl Mark {
    /// Takes note of a version; false when it was seen before.
    fn take(&mut self, resource: &Resource) -> bool {
        let (Some(id), Some(moment)) = (resource.id(), moment(resource)) else { return false };
        let version = resource.version().map_or_else(|| moment.to_string(), str::to_owned);
        if moment > self.at {
            self.at = moment;
            self.moved = now_micros();
        }
        self.seen.insert(format!("{id}/{version}"), moment).is_none()
    }

    /// Ends a look: forgets what the next one will not see. `began` is when the look began, by our own clock.
    fn end(&mut self, began: i64, has_more: bool) {
        self.reading = has_more;
        if !has_more && began.saturating_sub(self.moved) >= OVERLAP {
            self.floor = self.at;
        }
        let from = self.overlapping();
        self.seen.retain(|_, moment| *moment >= from);
    }

    fn overlapping(&self) -> i64 {
        self.at.saturating_sub(OVERLAP).max(self.floor)
    }

    /// Where the next look begins. While one goes on over several calls it does not reach back; its last call, and
    /// the looks after it, do, until the overlap has passed on our own clock too.
    fn from(&self) -> i64 {
        if self.reading { self.at } else { self.overlapping() }
    }

    fn since(&self) -> Option<DateTime> {
        // Milliseconds: not every server reads more digits.
        (self.at > 0).then(|| DateTime::from_millis(self.from().div_euclid(1000)))
    }
}

fn moment(resource: &Resource) -> Option<i64> {
    let Moments { start, .. } = resource.last_updated()?.moments()?;
    Some(start)
}

impl Client {
    pub(super) async fn changed(
        &self,
        kinds: &[ResourceType],
        since: Option<&Cursor>,
        limit: u32,
    ) -> Result<Changes, FhirError> {
        let mut progress: Progress = match since {
            None => Progress::default(),
            Some(cursor) => serde_json::from_str(&cursor.0)
                .map_err(|_| FhirError::Protocol("not a cursor of this client".to_owned()))?,
        };
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        let (mut found, mut more) = (Vec::new(), false);
        for kind in kinds.iter().collect::<BTreeSet<_>>() {
            let mark = progress.0.entry(kind.to_string()).or_default();
            let began = now_micros();
            let (resources, has_more) = match self.settings.changes_by {
                ChangesBy::Search => self.by_search(*kind, mark, limit).await?,
                ChangesBy::History => self.by_history(*kind, mark, limit).await?,
            };
            found.extend(resources);
            more |= has_more;
            mark.end(began, has_more);
        }
        found.sort_by_key(moment);
        let next = serde_json::to_string(&progress).map_err(|error| FhirError::Protocol(error.to_string()))?;
        Ok(Changes { resources: found, damaged: Vec::new(), next: Cursor(next), more })
    }

    async fn by_search(
        &self,
        kind: ResourceType,
        mark: &mut Mark,
        room: usize,
    ) -> Result<(Vec<Resource>, bool), FhirError> {
        let mut size = PAGE;
        loop {
            let (found, has_more, is_stuck) = self.search_once(kind, mark, room, size).await?;
            // More was written in one moment than a page holds, by a server that gives no links.
            if is_stuck && size < LARGEST_PAGE {
                size *= 8;
                continue;
            }
            return Ok((found, has_more && !is_stuck));
        }
    }

    /// One look. Says whether there is more, and whether it is all the same page: full, nothing new, no way on.
    async fn search_once(
        &self,
        kind: ResourceType,
        mark: &mut Mark,
        room: usize,
        size: u32,
    ) -> Result<(Vec<Resource>, bool, bool), FhirError> {
        let mut query = Query::new().with("_sort", "_lastUpdated").with("_count", size.to_string());
        if let Some(since) = mark.since() {
            query = query.with("_lastUpdated", format!("ge{since}"));
        }
        let mut found = Vec::new();
        let mut page: Page = self.search(kind, &query).await?;
        // Until the server proves otherwise. One that does not sort has to be read to its end before any moment
        // can be believed to be passed.
        let (mut last, mut sorted) = (i64::MIN, true);
        loop {
            let is_full = page.matches().count() >= usize::try_from(size).unwrap_or(usize::MAX);
            for resource in page.matches() {
                let moment = moment(resource).unwrap_or(i64::MIN);
                sorted &= moment >= last;
                last = moment;
                if mark.take(resource) {
                    found.push(resource.clone());
                }
            }
            let Some(next) = page.next else {
                // There are servers that keep to `_count` and give no link to the rest: it is looked for by time.
                let is_stuck = is_full && found.is_empty();
                return Ok((found, is_full, is_stuck));
            };
            if sorted && found.len() >= room {
                return Ok((found, true, false));
            }
            if found.len() > MOST_HELD {
                return Err(too_many(kind));
            }
            page = self.follow(&next).await?;
        }
    }

    async fn by_history(
        &self,
        kind: ResourceType,
        mark: &mut Mark,
        room: usize,
    ) -> Result<(Vec<Resource>, bool), FhirError> {
        let since = mark.since();
        let from = mark.from();
        let mut versions = Vec::new();
        let mut page = self.history(HistoryOf::Type(kind), since.as_ref(), Some(PAGE)).await?;
        loop {
            // A server that does not know `_since` gives everything: what is older is passed over.
            let before = versions.len();
            let wanted =
                |resource: &&Resource| since.is_none() || moment(resource).is_some_and(|moment| moment >= from);
            versions.extend(page.matches().filter(wanted).cloned());
            if versions.len() > MOST_HELD {
                return Err(too_many(kind));
            }
            match page.next {
                Some(next) if versions.len() > before => page = self.follow(&next).await?,
                _ => break,
            }
        }
        versions.reverse();
        versions.sort_by_key(moment);
        let (mut found, mut left) = (Vec::new(), false);
        for resource in versions {
            // What is left stays newer than the mark, and comes with the next look.
            if found.len() >= room && moment(&resource) > Some(mark.at) {
                left = true;
                break;
            }
            if mark.take(&resource) {
                found.push(resource);
            }
        }
        Ok((found, left))
    }
}

fn too_many(kind: ResourceType) -> FhirError {
    FhirError::Protocol(format!(
        "more than {MOST_HELD} {kind} resources changed and the server gives them in no usable order"
    ))
}
