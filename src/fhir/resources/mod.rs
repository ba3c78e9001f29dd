//! FHIR R4 (4.0.1) resources: [`Resource`] as any JSON that says what it is, and typed structs for those that the
//! mapping knows. Nothing is lost between the two: what has no field is kept, and decimals keep their digits.

pub mod care;
pub mod datatypes;
pub(crate) mod element;
pub mod exchange;
pub mod people;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    id::{Id, Key},
    instant::DateTime,
};

pub use care::{
    AuditAgent, AuditEntity, AuditEvent, AuditSource, CareTeam, CareTeamStatus, Communication, CommunicationRequest,
    EventStatus, Participant, Payload, RequestStatus, Task, TaskStatus,
};
pub use datatypes::{
    Address, Annotation, Attachment, CodeableConcept, Coding, ContactPoint, Extension, Gender, HumanName, Identifier,
    Meta, Period, Priority, Reference,
};
pub use exchange::{
    Bundle, BundleEntry, BundleLink, BundleType, CapabilityStatement, Channel, EntryRequest, EntryResponse,
    EntrySearch, Issue, IssueType, OperationOutcome, Parameters, Severity, Subscription, SubscriptionStatus,
};
pub use people::{
    Endpoint, EndpointStatus, Location, Organization, Patient, PatientLink, Practitioner, PractitionerRole,
    RelatedPerson,
};

macro_rules! resource_types {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// The resource types that this crate knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ResourceType {
            $(#[doc = concat!("`", stringify!($name), "`")] $name,)*
        }

        impl ResourceType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name as FHIR writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

resource_types! {
    AuditEvent,
    Bundle,
    CapabilityStatement,
    CareTeam,
    Communication,
    CommunicationRequest,
    Endpoint,
    Location,
    OperationOutcome,
    Organization,
    Parameters,
    Patient,
    Practitioner,
    PractitionerRole,
    RelatedPerson,
    Subscription,
    Task,
}

/// A text that is not the name of a known resource type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a resource type that is known here")]
pub struct UnknownType;

/// A resource type with a struct of its own.
pub trait Typed: Serialize + DeserializeOwned {
    /// The type.
    const TYPE: ResourceType;
}

/// Any resource, as its JSON. It is an object with a `resourceType`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Map<String, Value>", try_from = "Map<String, Value>")]
pub struct Resource(Map<String, Value>);

/// Why JSON is not the resource that was expected.
#[derive(Debug, thiserror::Error)]
pub enum NotThisResource {
    /// It is not JSON, or not an object.
    #[error("not a JSON object")]
    NotAnObject(#[source] Option<serde_json::Error>),
    /// It does not say what it is.
    #[error("`resourceType` is missing or not a text")]
    NoType,
    /// It is another resource.
    #[error("a {expected} was expected, not a {found}")]
    OtherType {
        /// What was expected.
        expected: ResourceType,
        /// What was found.
        found: String,
    },
    /// A member is not what it should be.
    #[error("{path}: not of the type that FHIR R4 gives it")]
    Member {
        /// Where, as FHIRPath.
        path: String,
        /// What was wrong there. It may repeat the value, so it is not for logs.
        source: serde_json::Error,
    },
}

// === impl ResourceType ===

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ResourceType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(UnknownType)
    }
}

// === impl Resource ===

impl Resource {
    /// Reads JSON text.
    ///
    /// # Errors
    /// When it is not a JSON object with a `resourceType`.
    pub fn from_json(text: &[u8]) -> Result<Self, NotThisResource> {
        let value: Value = serde_json::from_slice(text).map_err(|error| NotThisResource::NotAnObject(Some(error)))?;
        match value {
            Value::Object(members) => Self::try_from(members),
            _ => Err(NotThisResource::NotAnObject(None)),
        }
    }

    /// The resource as a typed struct.
    ///
    /// # Errors
    /// When it is of another type, or a member is of a wrong type; the error says where.
    pub fn to<T: Typed>(&self) -> Result<T, NotThisResource> {
        self.clone().into_typed()
    }

    /// As [`Resource::to`], for a resource that is not needed any more.
    ///
    /// # Errors
    /// As [`Resource::to`].
    pub fn into_typed<T: Typed>(mut self) -> Result<T, NotThisResource> {
        if self.type_name() != T::TYPE.as_str() {
            return Err(NotThisResource::OtherType { expected: T::TYPE, found: self.type_name().to_owned() });
        }
        self.0.shift_remove("resourceType");
        // By way of text: read from a `Value`, whole numbers of more than 64 bits would not fit into `rest`.
        let text = Value::Object(self.0).to_string();
        let mut reader = serde_json::Deserializer::from_str(&text);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| NotThisResource::Member {
            path: format!("{}.{}", T::TYPE, error.path()),
            source: error.into_inner(),
        })
    }

    /// The JSON of a typed struct.
    ///
    /// # Panics
    /// Never: the structs of this crate always have a JSON form. Should one not, the resource is empty but for its
    /// type, which the validator refuses.
    pub fn of<T: Typed>(typed: &T) -> Self {
        let mut members = Map::new();
        members.insert("resourceType".to_owned(), T::TYPE.as_str().into());
        if let Ok(Value::Object(found)) = serde_json::to_value(typed) {
            members.extend(found.into_iter().filter(|(name, _)| name != "resourceType"));
        }
        Self(members)
    }

    /// The name of the type.
    pub fn type_name(&self) -> &str {
        self.0.get("resourceType").and_then(Value::as_str).unwrap_or_default()
    }

    /// The type, where it is one that this crate knows.
    pub fn kind(&self) -> Option<ResourceType> {
        self.type_name().parse().ok()
    }

    /// The id, where there is a legal one.
    pub fn id(&self) -> Option<Id> {
        self.0.get("id")?.as_str()?.parse().ok()
    }

    /// Type and id.
    pub fn key(&self) -> Option<Key> {
        Some(Key::new(self.kind()?, self.id()?))
    }

    /// Type, id and version.
    pub fn versioned_key(&self) -> Option<Key> {
        Some(Key { version: self.version().map(str::to_owned), ..self.key()? })
    }

    /// `meta.versionId`.
    pub fn version(&self) -> Option<&str> {
        self.0.get("meta")?.get("versionId")?.as_str()
    }

    /// `meta.lastUpdated`.
    pub fn last_updated(&self) -> Option<DateTime> {
        DateTime::parse(self.0.get("meta")?.get("lastUpdated")?.as_str()?)
    }

    /// Sets the id.
    pub fn set_id(&mut self, id: &Id) {
        // The id stands right after the type, as people expect it.
        self.0.shift_remove("id");
        self.0.shift_insert(1.min(self.0.len()), "id".to_owned(), id.as_str().into());
    }

    /// Sets `meta.versionId` and `meta.lastUpdated`; the rest of `meta` stays.
    pub fn set_version(&mut self, version: &str, last_updated: &DateTime) {
        let meta = match self.0.shift_remove("meta") {
            Some(Value::Object(meta)) => meta,
            _ => Map::new(),
        };
        let mut stamped = Map::new();
        stamped.insert("versionId".to_owned(), version.into());
        stamped.insert("lastUpdated".to_owned(), last_updated.as_str().into());
        stamped.extend(meta.into_iter().filter(|(name, _)| name != "versionId" && name != "lastUpdated"));
        let after_id = 1 + usize::from(self.0.contains_key("id"));
        self.0.shift_insert(after_id.min(self.0.len()), "meta".to_owned(), Value::Object(stamped));
    }

    /// The members.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The members, to change. `resourceType` must stay.
    pub fn members_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// Whether two versions say the same: all but `meta.versionId` and `meta.lastUpdated` is equal, in whatever order.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let bare = |resource: &Self| {
            let mut members = resource.0.clone();
            if let Some(Value::Object(meta)) = members.get_mut("meta") {
                meta.shift_remove("versionId");
                meta.shift_remove("lastUpdated");
                if meta.is_empty() {
                    members.shift_remove("meta");
                }
            }
            members
        };
        bare(self) == bare(other)
    }

    /// The JSON text.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

impl TryFrom<Map<String, Value>> for Resource {
    type Error = NotThisResource;

    fn try_from(members: Map<String, Value>) -> Result<Self, NotThisResource> {
        match members.get("resourceType") {
            Some(Value::String(_)) => Ok(Self(members)),
            _ => Err(NotThisResource::NoType),
        }
    }
}

impl From<Resource> for Map<String, Value> {
    fn from(resource: Resource) -> Self {
        resource.0
    }
}

impl From<Resource> for Value {
    fn from(resource: Resource) -> Self {
        Self::Object(resource.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{
        "resourceType": "Communication", "id": "m1", "meta": {"versionId": "3", "profile": ["http://x"]},
        "status": "completed", "_status": {"id": "s"}, "partOf": [{"reference": "CommunicationRequest/t1"}],
        "contained": [{"resourceType": "Location", "position": {"longitude": 4.50, "latitude": 52.0}}],
        "extension": [{"url": "http://y", "valueDecimal": 1.10}, {"url": "http://z", "valueDecimal": 1e-22}],
        "payload": [{"contentAttachment": {"size": 7, "_title": {"extension": [{"url": "u", "valueCode": "x"}]}}}]
    }"#;

    #[test]
    fn a_typed_resource_loses_nothing() {
        let read = Resource::from_json(MESSAGE.as_bytes()).unwrap();
        let message: Communication = read.to().unwrap();
        assert_eq!(message.status, Some(EventStatus::Completed));
        assert_eq!(message.part_of[0].key().unwrap().to_string(), "CommunicationRequest/t1");
        let written = Resource::of(&message);
        assert_eq!(written, read);
        for digits in ["1.10", "1e-22", "4.50"] {
            assert!(written.to_json().contains(digits), "{written:?}");
        }
    }

    #[test]
    fn a_wrong_member_is_named_by_its_path() {
        let wrong = MESSAGE.replace(r#""size": 7"#, r#""size": "7""#);
        let error = Resource::from_json(wrong.as_bytes()).unwrap().to::<Communication>().unwrap_err();
        assert!(error.to_string().starts_with("Communication.payload[0].contentAttachment.size"), "{error}");
        let other = Resource::from_json(MESSAGE.as_bytes()).unwrap().to::<Task>().unwrap_err();
        assert_eq!(other.to_string(), "a Task was expected, not a Communication");
    }

    #[test]
    fn id_and_version_are_set_in_place() {
        let mut resource =
            Resource::from_json(br#"{"resourceType":"Task","status":"draft","meta":{"tag":[]}}"#).unwrap();
        resource.set_id(&"a".parse().unwrap());
        resource.set_version("2", &DateTime::from_micros(0));
        assert_eq!(
            resource.to_json(),
            r#"{"resourceType":"Task","id":"a","meta":{"versionId":"2","lastUpdated":"1970-01-01T00:00:00.000000Z","tag":[]},"status":"draft"}"#
        );
    }
}
