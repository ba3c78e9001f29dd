//! The general-purpose data types of R4 (2.24) that the mapping reads and writes.

use super::element::{code, element};
use crate::fhir::{id::Key, instant::DateTime};

element! {
    /// Version, time of the last change, profiles and tags of a resource (2.27.3.4).
    Meta {
        /// The version id; the ETag without its quotes.
        version_id: Option<String>,
        /// When this version came to be.
        last_updated: Option<DateTime>,
        /// Where the resource comes from.
        source: Option<String>,
        /// Labels of the workflow.
        tag: Vec<Coding>,
    }
}

element! {
    /// An extension (2.4); its value is a `value…` member of `rest`.
    Extension {
        /// What the extension means.
        url: Option<String>,
        /// `valueString`.
        value_string: Option<String>,
        /// `valueCode`.
        value_code: Option<String>,
        /// `valueUri`.
        value_uri: Option<String>,
        /// `valueCodeableConcept`.
        value_codeable_concept: Option<CodeableConcept>,
        /// `valueCoding`.
        value_coding: Option<Coding>,
        /// Nested extensions.
        extension: Vec<Extension>,
    }
}

element! {
    /// A code in a code system.
    Coding {
        /// The code system.
        system: Option<String>,
        /// Its version.
        version: Option<String>,
        /// The code.
        code: Option<String>,
        /// What people read.
        display: Option<String>,
    }
}

element! {
    /// A concept: codes that mean the same, and text.
    CodeableConcept {
        /// The codes.
        coding: Vec<Coding>,
        /// What people read.
        text: Option<String>,
    }
}

element! {
    /// A business identifier.
    Identifier {
        /// `usual`, `official`, `temp`, `secondary`, `old`.
        #[serde(rename = "use")]
        usage: Option<String>,
        /// What kind it is.
        #[serde(rename = "type")]
        kind: Option<CodeableConcept>,
        /// Who gives them out.
        system: Option<String>,
        /// The value within the system.
        value: Option<String>,
    }
}

element! {
    /// A reference to another resource, literal or by identifier.
    Reference {
        /// `Type/id`, an absolute URL, `urn:uuid:…` or `#contained`.
        reference: Option<String>,
        /// The type of what is referred to.
        #[serde(rename = "type")]
        kind: Option<String>,
        /// Its identifier, where there is no literal reference.
        identifier: Option<Box<Identifier>>,
        /// What people read.
        display: Option<String>,
    }
}

element! {
    /// A period; both ends belong to it.
    Period {
        /// The start.
        start: Option<DateTime>,
        /// The end; absent while it lasts.
        end: Option<DateTime>,
    }
}

element! {
    /// A person's name. Lists of texts hold `None` where only an extension stands.
    HumanName {
        /// `usual`, `official`, `nickname`, …
        #[serde(rename = "use")]
        usage: Option<String>,
        /// The whole name.
        text: Option<String>,
        /// The family name.
        family: Option<String>,
        /// Given names, in order.
        given: Vec<Option<String>>,
        /// What stands before the name.
        prefix: Vec<Option<String>>,
        /// What stands after the name.
        suffix: Vec<Option<String>>,
        /// When it is or was in use.
        period: Option<Period>,
    }
}

element! {
    /// A way to reach someone.
    ContactPoint {
        /// Extensions, among them `contactpoint-purpose`.
        extension: Vec<Extension>,
        /// `phone`, `email`, `url`, `other`, …
        system: Option<String>,
        /// The number, address or Matrix id.
        value: Option<String>,
        /// `home`, `work`, `old`, …
        #[serde(rename = "use")]
        usage: Option<String>,
        /// 1 is preferred most.
        rank: Option<u32>,
        /// When it is or was in use.
        period: Option<Period>,
    }
}

element! {
    /// Content in another format, inside (`data`) or elsewhere (`url`).
    Attachment {
        /// The media type.
        content_type: Option<String>,
        /// The language (BCP 47).
        language: Option<String>,
        /// The content, base64.
        data: Option<String>,
        /// Where the content is.
        url: Option<String>,
        /// Bytes of the content, before base64.
        size: Option<u64>,
        /// SHA-1 of the content, base64.
        hash: Option<String>,
        /// A file name or title.
        title: Option<String>,
        /// When it was made.
        creation: Option<DateTime>,
    }
}

element! {
    /// A remark by someone.
    Annotation {
        /// Who, by reference.
        author_reference: Option<Reference>,
        /// Who, as text.
        author_string: Option<String>,
        /// When.
        time: Option<DateTime>,
        /// Markdown.
        text: Option<String>,
    }
}

element! {
    /// A postal address.
    Address {
        /// The whole address.
        text: Option<String>,
        /// The town.
        city: Option<String>,
        /// The postal code.
        postal_code: Option<String>,
        /// The country.
        country: Option<String>,
    }
}

code! {
    /// Urgency of a request (`request-priority`).
    Priority {
        Routine = "routine",
        Urgent = "urgent",
        Asap = "asap",
        Stat = "stat",
    }
}

code! {
    /// Administrative gender.
    Gender {
        Male = "male",
        Female = "female",
        OtherGender = "other",
        Unknown = "unknown",
    }
}

/// The extension that tells what a contact point is for; its value names Matrix for our purposes.
pub const CONTACTPOINT_PURPOSE: &str = "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose";

// === impl Coding ===

impl Coding {
    /// A code in a system.
    pub fn new(system: impl Into<String>, code: impl Into<String>) -> Self {
        Self { system: Some(system.into()), code: Some(code.into()), ..Self::default() }
    }

    /// Adds what people read.
    #[must_use]
    pub fn display(mut self, display: impl Into<String>) -> Self {
        self.display = Some(display.into());
        self
    }

    /// Whether this is the code in the system.
    pub fn is(&self, system: &str, code: &str) -> bool {
        self.system.as_deref() == Some(system) && self.code.as_deref() == Some(code)
    }
}

// === impl CodeableConcept ===

impl CodeableConcept {
    /// A concept of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// What people read: the text, else the display of a code.
    pub fn label(&self) -> Option<&str> {
        self.text.as_deref().or_else(|| self.coding.iter().find_map(|coding| coding.display.as_deref()))
    }

    /// Whether one of its codes is this one.
    pub fn has(&self, system: &str, code: &str) -> bool {
        self.coding.iter().any(|coding| coding.is(system, code))
    }
}

impl From<Coding> for CodeableConcept {
    fn from(coding: Coding) -> Self {
        Self { coding: vec![coding], ..Self::default() }
    }
}

// === impl Identifier ===

impl Identifier {
    /// An identifier in a system.
    pub fn new(system: impl Into<String>, value: impl Into<String>) -> Self {
        Self { system: Some(system.into()), value: Some(value.into()), ..Self::default() }
    }

    /// Whether it is of this system.
    pub fn is_of(&self, system: &str) -> bool {
        self.system.as_deref() == Some(system)
    }
}

// === impl Reference ===

impl Reference {
    /// A reference to a resource on the same server.
    pub fn to(key: &Key) -> Self {
        Self { reference: Some(key.to_string()), ..Self::default() }
    }

    /// A reference by business identifier.
    pub fn by(identifier: Identifier) -> Self {
        Self { identifier: Some(Box::new(identifier)), ..Self::default() }
    }

    /// Adds what people read.
    #[must_use]
    pub fn display(mut self, display: impl Into<String>) -> Self {
        self.display = Some(display.into());
        self
    }

    /// The resource that is meant, where the reference is literal and of a type of this crate.
    ///
    /// The base of an absolute reference is not looked at: whether it is the same server is the caller's to know.
    pub fn key(&self) -> Option<Key> {
        Key::parse(self.reference.as_deref()?)
    }

    /// Whether it refers to the resource, in whatever version.
    pub fn points_to(&self, key: &Key) -> bool {
        self.key().is_some_and(|found| found.kind == key.kind && found.id == key.id)
    }
}

// === impl ContactPoint ===

impl ContactPoint {
    /// Whether the extension `contactpoint-purpose` holds this purpose, in any of the value types in use.
    pub fn has_purpose(&self, purpose: &str) -> bool {
        self.extension.iter().filter(|extension| extension.url.as_deref() == Some(CONTACTPOINT_PURPOSE)).any(
            |extension| {
                let concept = extension.value_codeable_concept.as_ref();
                let coded = concept.into_iter().flat_map(|concept| &concept.coding).chain(&extension.value_coding);
                [&extension.value_code, &extension.value_string].into_iter().flatten().any(|value| value == purpose)
                    || coded.into_iter().any(|coding| coding.code.as_deref() == Some(purpose))
                    || concept.and_then(|concept| concept.text.as_deref()) == Some(purpose)
            },
        )
    }
}

// === impl HumanName ===

impl HumanName {
    /// The name as people read it: the text, else prefix, given names, family name and suffix.
    pub fn full(&self) -> Option<String> {
        if let Some(text) = &self.text {
            return Some(text.clone());
        }
        let (prefix, given, suffix) = (&self.prefix, &self.given, &self.suffix);
        let before = prefix.iter().chain(given).flatten().map(String::as_str);
        let parts: Vec<&str> =
            before.chain(self.family.as_deref()).chain(suffix.iter().flatten().map(String::as_str)).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}
