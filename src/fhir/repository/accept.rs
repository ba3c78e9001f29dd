//! What is let in: valid resources, and subscriptions that can be served.

use serde_json::Value;

use super::hooks;
use crate::fhir::{
    resources::{Issue, IssueType, OperationOutcome, Resource, ResourceType, Subscription, SubscriptionStatus},
    server::FhirError,
    validation::validate,
};

pub(super) fn check(resource: &Resource) -> Result<(), FhirError> {
    validate(resource).map_err(FhirError::Invalid)
}

/// Checks a resource that somebody wants to be kept.
pub(super) fn accept(resource: Resource) -> Result<Resource, FhirError> {
    check(&resource)?;
    accept_checked(resource)
}

/// Checks what is not a matter of its form.
pub(super) fn accept_checked(resource: Resource) -> Result<Resource, FhirError> {
    let tags = resource.members().get("meta").and_then(|meta| meta.get("tag")?.as_array());
    if tags.into_iter().flatten().any(|tag| tag.get("code").and_then(Value::as_str) == Some("SUBSETTED")) {
        let issue = Issue::error(IssueType::BusinessRule, "a part of a resource would take the place of the whole one");
        let path = format!("{}.meta.tag", resource.type_name());
        return Err(FhirError::Invalid(OperationOutcome::boxed(issue.at(path))));
    }
    accept_subscription(resource)
}

/// A subscription is refused when it cannot be served. Whatever status its client gives, it is `requested` or `off`:
/// only the server says that it is active.
fn accept_subscription(mut resource: Resource) -> Result<Resource, FhirError> {
    if resource.kind() != Some(ResourceType::Subscription) {
        return Ok(resource);
    }
    let refuse = |code: IssueType, path: &str, text: &str| {
        Err(FhirError::Invalid(OperationOutcome::boxed(Issue::error(code, text).at(format!("Subscription.{path}")))))
    };
    let Ok(subscription) = resource.to::<Subscription>() else {
        return refuse(IssueType::Structure, "channel", "not a subscription");
    };
    if !subscription.criteria.as_deref().is_some_and(hooks::can_match) {
        return refuse(
            IssueType::NotSupported,
            "criteria",
            "Type?query is required, with search parameters known here",
        );
    }
    let channel = subscription.channel.unwrap_or_default();
    if channel.kind.as_deref() != Some("rest-hook") {
        return refuse(IssueType::NotSupported, "channel.type", "only rest-hook is served");
    }
    if channel.payload.is_some() {
        let text = "a notification carries no content here: leave the payload out and read what changed";
        return refuse(IssueType::BusinessRule, "channel.payload", text);
    }
    if channel.endpoint.is_none() {
        return refuse(IssueType::Required, "channel.endpoint", "a rest-hook needs an endpoint");
    }
    if subscription.status != Some(SubscriptionStatus::Off) {
        resource.members_mut().insert("status".to_owned(), SubscriptionStatus::Requested.as_str().into());
        resource.members_mut().shift_remove("error");
    }
    Ok(resource)
}
