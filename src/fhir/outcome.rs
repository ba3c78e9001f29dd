//! Errors as clients get them: a status and an OperationOutcome.

use http::StatusCode;

use super::{
    resources::{Issue, IssueType, OperationOutcome},
    server::FhirError,
};

/// The HTTP status and the outcome for an error (R4, 3.1.0.1.5 and the interactions).
pub fn of(error: &FhirError) -> (StatusCode, OperationOutcome) {
    let plain = |status, code, text: String| (status, OperationOutcome::of(Issue::error(code, text)));
    match error {
        FhirError::NotFound(_) => plain(StatusCode::NOT_FOUND, IssueType::NotFound, error.to_string()),
        FhirError::VersionConflict(outcome) | FhirError::MultipleMatches(outcome) => {
            (StatusCode::PRECONDITION_FAILED, (**outcome).clone())
        }
        FhirError::Invalid(outcome) => (status_of(outcome), (**outcome).clone()),
        FhirError::NotSupported(text) => plain(StatusCode::METHOD_NOT_ALLOWED, IssueType::NotSupported, text.clone()),
        FhirError::Forbidden(text) => plain(StatusCode::FORBIDDEN, IssueType::Forbidden, text.clone()),
        FhirError::Busy { .. } | FhirError::Unavailable(_) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, IssueType::Transient, error.to_string())
        }
        FhirError::Refused(_) => plain(StatusCode::UNPROCESSABLE_ENTITY, IssueType::Processing, error.to_string()),
        FhirError::Damaged(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, IssueType::Exception, error.to_string()),
        FhirError::Protocol(_) => plain(StatusCode::BAD_GATEWAY, IssueType::Exception, error.to_string()),
    }
}

/// 422 for a resource that breaks the rules, 400 for a request that cannot be understood, 413 for one that is too big.
fn status_of(outcome: &OperationOutcome) -> StatusCode {
    let codes = || outcome.issue.iter().filter_map(|issue| issue.code.as_ref());
    if codes().any(|code| matches!(code, IssueType::TooCostly | IssueType::TooLong)) {
        StatusCode::PAYLOAD_TOO_LARGE
    } else if codes().all(|code| matches!(code, IssueType::Invalid | IssueType::NotFound)) {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    }
}
