//! What the entries of batches and transactions ask for.

use super::store::invalid;
use crate::fhir::{
    etag::Tags,
    id::Key,
    query::Query,
    resources::{EntryRequest, IssueType, ResourceType},
    server::{FhirError, Only},
};

/// What an entry asks for.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// `POST Type`.
    Create { kind: ResourceType, unless: Option<Query> },
    /// `PUT Type/id`.
    Update { key: Key, only_if: Only },
    /// `PUT Type?query`.
    UpdateWhere { kind: ResourceType, query: Query, only_if: Only },
    /// `GET Type/id` or `GET Type/id/_history/version`.
    Read { key: Key, unless: Option<Tags> },
    /// `GET Type?query`.
    Search { kind: ResourceType, query: Query },
}

// === impl Ask ===

impl Ask {
    /// Reads the request of an entry; `at` is the entry's FHIRPath.
    pub(crate) fn read(request: Option<&EntryRequest>, at: &str) -> Result<Self, FhirError> {
        let wrong = |text: &str, member: &str| invalid(IssueType::Value, text, &format!("{at}.request{member}"));
        let request = request.ok_or_else(|| invalid(IssueType::Required, "a request is required", at))?;
        let url = request.url.as_deref().unwrap_or_default().trim_start_matches('/');
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let query = query.map(Query::parse).transpose().map_err(|_| wrong("not a query", ".url"))?;
        let kind = || -> Result<ResourceType, FhirError> {
            path.parse().map_err(|_| wrong("a resource type that is known here is required", ".url"))
        };
        let key = || Key::parse(path).filter(|_| !path.contains("://"));
        match (request.method.as_deref().unwrap_or_default(), query) {
            ("POST", None) => {
                let unless = request.if_none_exist.as_deref().map(|text| Query::parse(text.trim_start_matches('?')));
                let unless = unless.transpose().map_err(|_| wrong("not a query", ".ifNoneExist"))?;
                Ok(Self::Create { kind: kind()?, unless })
            }
            ("PUT", Some(query)) => Ok(Self::UpdateWhere { kind: kind()?, query, only_if: only(request, at)? }),
            ("PUT", None) => {
                let key =
                    key().filter(|key| key.version.is_none()).ok_or_else(|| wrong("Type/id is required", ".url"))?;
                Ok(Self::Update { key, only_if: only(request, at)? })
            }
            ("GET" | "HEAD", query) => match (key(), query) {
                (Some(key), None) => {
                    let unless = request.if_none_match.as_deref().map(Tags::read);
                    Ok(Self::Read { key, unless })
                }
                (None, query) => Ok(Self::Search { kind: kind()?, query: query.unwrap_or_default() }),
                (Some(_), Some(_)) => Err(wrong("a read has no query", ".url")),
            },
            ("DELETE", _) => Err(FhirError::NotSupported(
                "nothing is deleted here: set the status to entered-in-error or inactive".to_owned(),
            )),
            _ => Err(FhirError::NotSupported("only GET, POST and PUT are done here".to_owned())),
        }
    }
}

/// The condition of an update, which its entry has in place of headers.
fn only(request: &EntryRequest, at: &str) -> Result<Only, FhirError> {
    let tags = |text: &Option<String>| text.as_deref().map(Tags::read);
    let only = Only::of(tags(&request.if_match), tags(&request.if_none_match));
    let text = "an update takes ifMatch, or ifNoneMatch `*`";
    only.ok_or_else(|| invalid(IssueType::Value, text, &format!("{at}.request.ifNoneMatch")))
}
