//! What can come between the engine and its work, and what that means for the work.

use std::time::Duration;

use crate::{
    bridge::store::{Need, Side, StoreError},
    fhir::{resources::NotThisResource, server::FhirError},
    matrix,
    service::database::DatabaseError,
};

/// Why work is not done. Texts are for logs and people and hold no patient data.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A server cannot be reached: nothing goes on there until it is back. The work may have had its effect.
    #[error("{}: {reason}", side.name())]
    Away {
        /// Which server.
        side: Side,
        /// What came of the attempt.
        reason: String,
    },
    /// A server did not do it now: try again, however often. The work may have had its effect.
    #[error("{reason}")]
    Busy {
        /// What it said.
        reason: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Somebody else was faster: try again at once.
    #[error("{0}")]
    Again(String),
    /// It was refused, and most likely will be again.
    #[error("{0}")]
    Refused(String),
    /// It was refused, and will be until somebody does something about it.
    #[error("{0}")]
    Hopeless(String),
    /// Something that is needed is not there yet.
    #[error("waits for {}", .0.key())]
    Wait(Need),
    /// The store failed: nothing can be promised.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl Trouble ===

impl Trouble {
    /// What a failure of the store means for the work. What the database refuses for good is not asked of it again and
    /// again; a conflict with others is tried as often as a refusal is. Texts hold no values.
    pub(super) fn weighed(self) -> Self {
        match self {
            Self::Store(StoreError::Database(error)) if error.is_about_the_work() => Self::Hopeless(error.to_string()),
            Self::Store(StoreError::Database(error @ DatabaseError::GaveUp(_))) => Self::Refused(error.to_string()),
            other => other,
        }
    }
}

impl From<matrix::Error> for Trouble {
    fn from(error: matrix::Error) -> Self {
        // A token that is not known is the operator's to mend; what was accepted waits for it.
        if matches!(error, matrix::Error::Unreachable { .. }) || error.is_unknown_token() {
            return Self::Away { side: Side::Matrix, reason: error.to_string() };
        }
        if error.is_temporary() || matches!(error, matrix::Error::Answer { .. }) {
            return Self::Busy { reason: error.to_string(), retry_after: error.retry_after() };
        }
        Self::Refused(error.to_string())
    }
}

impl From<FhirError> for Trouble {
    fn from(error: FhirError) -> Self {
        let busy = |reason: &str, error: &FhirError| Self::Busy {
            reason: reason.to_owned(),
            retry_after: error.retry_after(),
        };
        // The diagnostics of a foreign server may repeat values: what is kept is what kind of trouble it is, and where.
        let places = |outcome: &crate::fhir::resources::OperationOutcome| {
            outcome.issue.iter().flat_map(|issue| issue.expression.clone()).collect::<Vec<_>>().join(", ")
        };
        match &error {
            FhirError::Busy { .. } => busy("the FHIR server is busy", &error),
            FhirError::Unavailable(_) => {
                Self::Away { side: Side::Fhir, reason: "the server cannot be reached or failed".to_owned() }
            }
            // Nobody need wait behind it.
            FhirError::Refused(_) => Self::Hopeless("FHIR: the server's database refused it for good".to_owned()),
            FhirError::Damaged(_) => Self::Hopeless("FHIR: what the server has there is damaged".to_owned()),
            FhirError::Protocol(_) => busy("the FHIR server's answer is not FHIR", &error),
            FhirError::Forbidden(_) => busy("the FHIR server does not let the bridge in", &error),
            // Somebody else wrote in between: read again and try again.
            FhirError::VersionConflict(_) => Self::Again("FHIR: another version is there".to_owned()),
            FhirError::NotFound(what) => Self::Refused(format!("FHIR: {what} is not there")),
            FhirError::MultipleMatches(_) => Self::Refused("FHIR: several resources match".to_owned()),
            FhirError::Invalid(outcome) => Self::Refused(format!("FHIR: refused; {}", places(outcome))),
            FhirError::NotSupported(_) => Self::Refused("FHIR: not supported by the server".to_owned()),
        }
    }
}

impl From<NotThisResource> for Trouble {
    fn from(error: NotThisResource) -> Self {
        Self::Refused(format!("FHIR: {error}"))
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        // Only the place: the text of the error may repeat what stands there.
        Self::Refused(format!("broken JSON at line {}, column {}", error.line(), error.column()))
    }
}
