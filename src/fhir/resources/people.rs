//! People, organisations and where to find them: the patient's circle and the directory (mCSD).

use super::{
    datatypes::{Address, CodeableConcept, Coding, ContactPoint, Gender, HumanName, Identifier, Period, Reference},
    element::{code, element, resource},
};
use crate::fhir::instant::DateTime;

resource! {
    /// Whom the care is for.
    Patient {
        /// Business identifiers, among them the BSN.
        identifier: Vec<Identifier>,
        /// Whether the record is in use.
        active: Option<bool>,
        /// Names.
        name: Vec<HumanName>,
        /// How to reach the patient.
        telecom: Vec<ContactPoint>,
        /// Administrative gender.
        gender: Option<Gender>,
        /// Date of birth.
        birth_date: Option<DateTime>,
        /// Addresses.
        address: Vec<Address>,
        /// General practitioners.
        general_practitioner: Vec<Reference>,
        /// Who keeps the record.
        managing_organization: Option<Reference>,
        /// Other records of the same person, for example after a merge.
        link: Vec<PatientLink>,
    }
}

element! {
    /// Another record of the same patient.
    PatientLink {
        /// The other record.
        other: Option<Reference>,
        /// `replaced-by`, `replaces`, `refer` or `seealso`.
        #[serde(rename = "type")]
        kind: Option<String>,
    }
}

resource! {
    /// Someone who cares professionally.
    Practitioner {
        /// Business identifiers, among them the UZI number.
        identifier: Vec<Identifier>,
        /// Whether the record is in use.
        active: Option<bool>,
        /// Names.
        name: Vec<HumanName>,
        /// How to reach the practitioner.
        telecom: Vec<ContactPoint>,
        /// Administrative gender.
        gender: Option<Gender>,
        /// Addresses.
        address: Vec<Address>,
    }
}

resource! {
    /// What a practitioner does for an organisation.
    PractitionerRole {
        /// Business identifiers.
        identifier: Vec<Identifier>,
        /// Whether the record is in use.
        active: Option<bool>,
        /// When.
        period: Option<Period>,
        /// Who.
        practitioner: Option<Reference>,
        /// For which organisation.
        organization: Option<Reference>,
        /// Roles.
        code: Vec<CodeableConcept>,
        /// Specialties.
        specialty: Vec<CodeableConcept>,
        /// Where.
        location: Vec<Reference>,
        /// How to reach the practitioner in this role.
        telecom: Vec<ContactPoint>,
        /// Technical end points.
        endpoint: Vec<Reference>,
    }
}

resource! {
    /// Someone close to the patient.
    RelatedPerson {
        /// Business identifiers.
        identifier: Vec<Identifier>,
        /// Whether the record is in use.
        active: Option<bool>,
        /// To whom this person is close.
        patient: Option<Reference>,
        /// How: partner, child, neighbour.
        relationship: Vec<CodeableConcept>,
        /// Names.
        name: Vec<HumanName>,
        /// How to reach this person.
        telecom: Vec<ContactPoint>,
        /// Administrative gender.
        gender: Option<Gender>,
        /// Addresses.
        address: Vec<Address>,
        /// When.
        period: Option<Period>,
    }
}

resource! {
    /// A care organisation or a part of one.
    Organization {
        /// Business identifiers, among them the URA number.
        identifier: Vec<Identifier>,
        /// Whether the record is in use.
        active: Option<bool>,
        /// What kind.
        #[serde(rename = "type")]
        kind: Vec<CodeableConcept>,
        /// Its name.
        name: Option<String>,
        /// How to reach it, among them its homeserver.
        telecom: Vec<ContactPoint>,
        /// Addresses.
        address: Vec<Address>,
        /// What it is a part of.
        part_of: Option<Reference>,
        /// Technical end points.
        endpoint: Vec<Reference>,
    }
}

code! {
    /// `endpoint-status`.
    EndpointStatus {
        Active = "active",
        Suspended = "suspended",
        Error = "error",
        Off = "off",
        EnteredInError = "entered-in-error",
        Test = "test",
    }
}

resource! {
    /// A technical end point, for example a homeserver.
    Endpoint {
        /// Business identifiers.
        identifier: Vec<Identifier>,
        /// Whether it works.
        status: Option<EndpointStatus>,
        /// The protocol.
        connection_type: Option<Coding>,
        /// Its name.
        name: Option<String>,
        /// Who runs it.
        managing_organization: Option<Reference>,
        /// How to reach those who run it.
        contact: Vec<ContactPoint>,
        /// When.
        period: Option<Period>,
        /// What it carries.
        payload_type: Vec<CodeableConcept>,
        /// Its address.
        address: Option<String>,
    }
}

resource! {
    /// A place.
    Location {
        /// Business identifiers.
        identifier: Vec<Identifier>,
        /// `active`, `suspended` or `inactive`.
        status: Option<String>,
        /// Its name.
        name: Option<String>,
        /// What kind.
        #[serde(rename = "type")]
        kind: Vec<CodeableConcept>,
        /// How to reach it.
        telecom: Vec<ContactPoint>,
        /// Its address.
        address: Option<Address>,
        /// Who runs it.
        managing_organization: Option<Reference>,
        /// What it is a part of.
        part_of: Option<Reference>,
        /// Technical end points.
        endpoint: Vec<Reference>,
    }
}
