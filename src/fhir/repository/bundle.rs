//! The answers to the entries of batches and transactions (R4, 3.1.0.11).

use crate::fhir::{
    resources::{BundleEntry, EntryResponse, OperationOutcome, Resource},
    server::{Effect, FhirError, Written},
};

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

/// The answer to an entry that read.
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
            if issue.expression.iter().all(|path| !path.starts_with("Bundle.")) {
                issue.expression = vec![at.to_owned()];
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
