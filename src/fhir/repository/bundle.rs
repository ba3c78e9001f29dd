//! The answers to the entries of batches and transactions (R4, 3.1.0.11).

use super::accept::check;
use crate::fhir::{
    etag::Tags,
    resources::{Bundle, BundleEntry, BundleType, EntryResponse, OperationOutcome, Resource},
    server::{Effect, FhirError, Written},
};

/// Checks an entry of a batch without its resource, which is checked when it is written: a condition with a letter too
/// many must not be passed over.
pub(super) fn check_apart(entry: &BundleEntry, at: &str) -> Result<(), FhirError> {
    let bare = BundleEntry {
        full_url: entry.full_url.clone(),
        resource: None,
        search: entry.search.clone(),
        request: entry.request.clone(),
        response: entry.response.clone(),
        rest: entry.rest.clone(),
    };
    let bundle = Bundle { kind: Some(BundleType::Batch), entry: vec![bare], ..Bundle::default() };
    check(&Resource::of(&bundle)).map_err(|error| match error {
        FhirError::Invalid(mut outcome) => {
            for path in outcome.issue.iter_mut().flat_map(|issue| &mut issue.expression) {
                *path = path.replacen("Bundle.entry[0]", at, 1);
            }
            FhirError::Invalid(outcome)
        }
        other => other,
    })
}

/// The answer to an entry that wrote.
pub(crate) fn written_entry(base: &str, written: Written) -> BundleEntry {
    let status = match written.effect {
        Effect::Created => "201 Created",
        Effect::Updated | Effect::Unchanged => "200 OK",
    };
    let mut entry = found_entry(written.resource);
    if let Some(response) = &mut entry.response {
        response.status = Some(status.to_owned());
        response.location = entry.resource.as_ref().and_then(Resource::versioned_key).map(|key| key.to_string());
    }
    entry.full_url = entry.resource.as_ref().and_then(Resource::key).map(|key| format!("{base}{key}"));
    entry
}

/// The answer to an entry that read, or 304 where the client has this version already.
pub(super) fn read_entry(resource: Resource, unless: Option<&Tags>) -> BundleEntry {
    let is_known = unless.is_some_and(|tags| tags.name(resource.version()));
    let mut entry = found_entry(resource);
    if is_known {
        entry.resource = None;
        if let Some(response) = &mut entry.response {
            response.status = Some("304 Not Modified".to_owned());
        }
    }
    entry
}

/// The answer to an entry that found something.
pub(crate) fn found_entry(resource: Resource) -> BundleEntry {
    let response = EntryResponse {
        status: Some("200 OK".to_owned()),
        etag: resource.version().map(crate::fhir::etag::write),
        last_modified: resource.last_updated(),
        ..EntryResponse::default()
    };
    BundleEntry { resource: Some(resource), response: Some(response), ..BundleEntry::default() }
}

/// The error with the entry's place in front of its own.
pub(crate) fn located(error: FhirError, at: &str) -> FhirError {
    let place = |mut outcome: Box<OperationOutcome>| {
        for issue in &mut outcome.issue {
            if issue.expression.is_empty() {
                issue.expression.push(at.to_owned());
            }
            for path in issue.expression.iter_mut().filter(|path| !path.starts_with("Bundle.")) {
                *path = path.split_once('.').map_or_else(|| at.to_owned(), |(_, rest)| format!("{at}.resource.{rest}"));
            }
        }
        outcome
    };
    match error {
        FhirError::Invalid(outcome) => FhirError::Invalid(place(outcome)),
        FhirError::VersionConflict(outcome) => FhirError::VersionConflict(place(outcome)),
        FhirError::MultipleMatches(outcome) => FhirError::MultipleMatches(place(outcome)),
        other => other,
    }
}
