//! What a care directory says of professionals and organisations, as the profile mCSD has it (IHE ITI TF-2,
//! "Mobile Care Services Discovery").
//!
//! A professional is a Practitioner; each PractitionerRole is what they do for one Organization. The Matrix id stands
//! in `telecom` of the role, else of the practitioner. An organisation's homeserver stands in its `telecom`, else in
//! an Endpoint, else with the organisation that it is a part of.

use crate::{
    bridge::mapping::person::{self, Profile},
    fhir::{
        instant::DateTime,
        resources::{CodeableConcept, Endpoint, EndpointStatus, Organization, Period, PractitionerRole, Resource},
    },
};

/// Codes by which an Endpoint says that it is a homeserver: as its connection type, or what it carries.
const HOMESERVER_CODES: [&str; 3] = ["matrix", "matrix-homeserver", "matrix-messaging"];

/// Somebody, in one place of work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Where it stands in the directory: `Practitioner/1`, `Organization/1`.
    pub resource: String,
    /// The Matrix user.
    pub matrix_id: Option<String>,
    /// What people call them.
    pub name: Option<String>,
    /// The number of a professional's card.
    pub uzi: Option<String>,
    /// The number of the organisation.
    pub ura: Option<String>,
    /// The organisation's homeserver.
    pub homeserver: Option<String>,
}

/// What an organisation gives to those who work there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Employer {
    /// Its number.
    pub ura: Option<String>,
    /// Its homeserver.
    pub homeserver: Option<String>,
}

/// Whether a resource is in use: R4 takes it for active unless it says otherwise.
pub fn is_active(resource: &Resource) -> bool {
    resource.members().get("active").and_then(serde_json::Value::as_bool) != Some(false)
}

/// Whether somebody has a role at a moment (milliseconds since 1970).
pub fn is_held(role: &PractitionerRole, at: i64) -> bool {
    role.active != Some(false) && role.period.as_ref().is_none_or(|period| holds(period, at))
}

/// Whether a moment (milliseconds since 1970) is in a period; both its ends belong to it.
pub fn holds(period: &Period, at: i64) -> bool {
    let begun = period.start.as_ref().and_then(DateTime::millis).is_none_or(|start| start <= at);
    begun && end_of(period).is_none_or(|end| at < end)
}

/// The first moment (milliseconds since 1970) after a period; a date without a time means the whole day.
pub fn end_of(period: &Period) -> Option<i64> {
    let moments = period.end.as_ref()?.moments()?;
    Some(moments.end.div_euclid(1000))
}

/// A practitioner in one role, or in none.
pub fn of_practitioner(practitioner: &Resource, role: Option<(&Resource, &Employer)>) -> Listing {
    let own = person::profile(practitioner);
    let (of_role, employer) = match role {
        Some((role, employer)) => (person::profile(role), employer.clone()),
        None => (Profile::default(), Employer::default()),
    };
    Listing {
        resource: key(practitioner),
        matrix_id: of_role.matrix_id.or(own.matrix_id),
        name: own.name,
        uzi: own.uzi.or(of_role.uzi),
        ura: employer.ura,
        homeserver: employer.homeserver,
    }
}

/// An organisation as itself.
pub fn of_organization(organization: &Resource, employer: &Employer) -> Listing {
    let own = person::profile(organization);
    Listing {
        resource: key(organization),
        matrix_id: own.matrix_id,
        name: own.name,
        uzi: None,
        ura: employer.ura.clone(),
        homeserver: employer.homeserver.clone(),
    }
}

/// The number of an organisation.
pub fn ura(organization: &Organization) -> Option<String> {
    super::identifier(&organization.identifier, person::URA).map(str::to_owned)
}

/// The homeserver that an Endpoint is, by name; `None` when it is something else, or out of use.
pub fn homeserver_at(endpoint: &Endpoint, at: i64) -> Option<String> {
    let in_use = matches!(endpoint.status, Some(EndpointStatus::Active | EndpointStatus::Test))
        && endpoint.period.as_ref().is_none_or(|period| holds(period, at));
    let means = |code: Option<&str>| {
        code.is_some_and(|code| HOMESERVER_CODES.iter().any(|known| known.eq_ignore_ascii_case(code)))
    };
    let carries = |kind: &CodeableConcept| kind.coding.iter().any(|coding| means(coding.code.as_deref()));
    let is_one = means(endpoint.connection_type.as_ref().and_then(|kind| kind.code.as_deref()))
        || endpoint.payload_type.iter().any(carries);
    if !in_use || !is_one {
        return None;
    }
    server_name(endpoint.address.as_deref()?)
}

/// The server's name in an address: `https://matrix.example.nl/`, `matrix:example.nl` or the name alone.
pub fn server_name(address: &str) -> Option<String> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.strip_prefix("matrix:").unwrap_or(rest);
    let name = rest.split(['/', '?', '#']).next().unwrap_or_default();
    <&ruma::ServerName>::try_from(name).is_ok().then(|| name.to_owned())
}

/// Of all that is listed of one professional, the place where a conversation reaches them: with an organisation of
/// this number, else as themselves or in another role; always one with a Matrix id, where there is one.
pub fn best<'a>(listings: &'a [Listing], ura: Option<&str>) -> Option<&'a Listing> {
    let reachable = || listings.iter().filter(|listing| listing.matrix_id.is_some());
    reachable()
        .find(|listing| ura.is_some() && listing.ura.as_deref() == ura)
        .or_else(|| reachable().next())
        .or(listings.first())
}

fn key(resource: &Resource) -> String {
    resource.key().map(|key| key.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoint(value: serde_json::Value) -> Endpoint {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_endpoint_is_a_homeserver_where_it_says_so() {
        let right = json!({ "status": "active", "connectionType": { "code": "matrix-homeserver" },
            "address": "https://matrix.huisarts.nl:8448/_matrix" });
        assert_eq!(homeserver_at(&endpoint(right.clone()), 0).as_deref(), Some("matrix.huisarts.nl:8448"));
        let by_payload = json!({ "status": "active", "connectionType": { "code": "hl7-fhir-msg" },
            "payloadType": [{ "coding": [{ "code": "Matrix" }] }], "address": "huisarts" });
        assert_eq!(homeserver_at(&endpoint(by_payload), 0).as_deref(), Some("huisarts"));
        for (member, value) in [
            ("status", json!("off")),
            ("connectionType", json!({ "code": "hl7-fhir-rest" })),
            ("period", json!({ "end": "1969" })),
            ("address", json!("http:///")),
        ] {
            let mut wrong = right.clone();
            wrong[member] = value;
            assert_eq!(homeserver_at(&endpoint(wrong), 0), None, "{member}");
        }
    }

    #[test]
    fn the_role_with_the_organisation_counts_before_others() {
        let listing = |ura: Option<&str>, matrix_id: Option<&str>| Listing {
            ura: ura.map(str::to_owned),
            matrix_id: matrix_id.map(str::to_owned),
            ..Listing::default()
        };
        let all = [listing(Some("1"), None), listing(None, Some("@a:x")), listing(Some("2"), Some("@b:y"))];
        let found = |ura| best(&all, ura).and_then(|listing| listing.matrix_id.as_deref());
        assert_eq!((found(Some("2")), found(Some("1")), found(None)), (Some("@b:y"), Some("@a:x"), Some("@a:x")));
        assert_eq!(best(&all[..1], None), Some(&all[0]));
        assert_eq!(best(&[], Some("1")), None);
    }

    #[test]
    fn a_role_ends_with_its_period() {
        let role = |value| serde_json::from_value::<PractitionerRole>(value).unwrap();
        let ended = role(json!({ "period": { "end": "1970-01-01" } }));
        assert!(is_held(&ended, 86_399_999) && !is_held(&ended, 86_400_000));
        assert!(!is_held(&role(json!({ "active": false })), 0) && is_held(&role(json!({})), 0));
    }
}
