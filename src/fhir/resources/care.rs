//! The resources of a conversation: team, thread, message, and who has read it.

use super::{
    datatypes::{
        Annotation, Attachment, CodeableConcept, Coding, ContactPoint, Identifier, Period, Priority, Reference,
    },
    element::{code, element, resource},
};
use crate::fhir::instant::DateTime;

code! {
    /// `care-team-status`.
    CareTeamStatus {
        Proposed = "proposed",
        Active = "active",
        Suspended = "suspended",
        Inactive = "inactive",
        EnteredInError = "entered-in-error",
    }
}

resource! {
    /// The people who care for someone together.
    CareTeam {
        /// Business identifiers.
        identifier: Vec<Identifier>,
        /// Where the team is in its life.
        status: Option<CareTeamStatus>,
        /// What kind of team.
        category: Vec<CodeableConcept>,
        /// Its name.
        name: Option<String>,
        /// Whom it cares for.
        subject: Option<Reference>,
        /// When it exists.
        period: Option<Period>,
        /// Its members.
        participant: Vec<Participant>,
        /// Why it exists.
        reason_code: Vec<CodeableConcept>,
        /// The organisations that answer for it.
        managing_organization: Vec<Reference>,
        /// How to reach it.
        telecom: Vec<ContactPoint>,
        /// Remarks.
        note: Vec<Annotation>,
    }
}

element! {
    /// A member of a care team.
    Participant {
        /// What the member does.
        role: Vec<CodeableConcept>,
        /// Who it is.
        member: Option<Reference>,
        /// For which organisation.
        on_behalf_of: Option<Reference>,
        /// When.
        period: Option<Period>,
    }
}

code! {
    /// `request-status`.
    RequestStatus {
        Draft = "draft",
        Active = "active",
        OnHold = "on-hold",
        Revoked = "revoked",
        Completed = "completed",
        EnteredInError = "entered-in-error",
        Unknown = "unknown",
    }
}

resource! {
    /// A thread: a request to communicate, with its first message.
    CommunicationRequest {
        /// Business identifiers.
        identifier: Vec<Identifier>,
        /// What it fulfils: the care team of the thread may stand here.
        based_on: Vec<Reference>,
        /// What it replaces.
        replaces: Vec<Reference>,
        /// The composite request that this is part of.
        group_identifier: Option<Identifier>,
        /// Where the thread is in its life.
        status: Option<RequestStatus>,
        /// Why it is there.
        status_reason: Option<CodeableConcept>,
        /// What kind of thread.
        category: Vec<CodeableConcept>,
        /// How urgent.
        priority: Option<Priority>,
        /// Whom it is about.
        subject: Option<Reference>,
        /// What it is about.
        about: Vec<Reference>,
        /// The first message.
        payload: Vec<Payload>,
        /// When it was made.
        authored_on: Option<DateTime>,
        /// Who asked.
        requester: Option<Reference>,
        /// Who takes part.
        recipient: Vec<Reference>,
        /// Who is to send.
        sender: Option<Reference>,
        /// Remarks.
        note: Vec<Annotation>,
    }
}

element! {
    /// One part of a message's content: exactly one of the three.
    Payload {
        /// Text.
        content_string: Option<String>,
        /// A file.
        content_attachment: Option<Attachment>,
        /// Another resource.
        content_reference: Option<Reference>,
    }
}

code! {
    /// `event-status`.
    EventStatus {
        Preparation = "preparation",
        InProgress = "in-progress",
        NotDone = "not-done",
        OnHold = "on-hold",
        Stopped = "stopped",
        Completed = "completed",
        EnteredInError = "entered-in-error",
        Unknown = "unknown",
    }
}

resource! {
    /// A message.
    Communication {
        /// Business identifiers, among them the Matrix event id.
        identifier: Vec<Identifier>,
        /// What it fulfils.
        based_on: Vec<Reference>,
        /// The thread.
        part_of: Vec<Reference>,
        /// What it answers.
        in_response_to: Vec<Reference>,
        /// Where the message is in its life.
        status: Option<EventStatus>,
        /// Why it is there.
        status_reason: Option<CodeableConcept>,
        /// What kind of message.
        category: Vec<CodeableConcept>,
        /// How urgent.
        priority: Option<Priority>,
        /// By which channel.
        medium: Vec<CodeableConcept>,
        /// Whom it is about.
        subject: Option<Reference>,
        /// What it is about, in a word.
        topic: Option<CodeableConcept>,
        /// What it is about.
        about: Vec<Reference>,
        /// When it was sent.
        sent: Option<DateTime>,
        /// When it was received.
        received: Option<DateTime>,
        /// To whom.
        recipient: Vec<Reference>,
        /// From whom.
        sender: Option<Reference>,
        /// The content.
        payload: Vec<Payload>,
        /// Remarks.
        note: Vec<Annotation>,
    }
}

code! {
    /// `task-status`.
    TaskStatus {
        Draft = "draft",
        Requested = "requested",
        Received = "received",
        Accepted = "accepted",
        Rejected = "rejected",
        Ready = "ready",
        Cancelled = "cancelled",
        InProgress = "in-progress",
        OnHold = "on-hold",
        Failed = "failed",
        Completed = "completed",
        EnteredInError = "entered-in-error",
    }
}

resource! {
    /// What someone still has to read.
    Task {
        /// Business identifiers.
        identifier: Vec<Identifier>,
        /// The thread.
        based_on: Vec<Reference>,
        /// The composite task that this is part of.
        group_identifier: Option<Identifier>,
        /// The task that this is part of.
        part_of: Vec<Reference>,
        /// `requested`: unread; `completed`: read.
        status: Option<TaskStatus>,
        /// Why it is there.
        status_reason: Option<CodeableConcept>,
        /// `order` and others (`task-intent`).
        intent: Option<String>,
        /// How urgent.
        priority: Option<Priority>,
        /// What is to be done.
        code: Option<CodeableConcept>,
        /// The same, for people.
        description: Option<String>,
        /// The newest message.
        focus: Option<Reference>,
        /// Whom it is about (`for`).
        #[serde(rename = "for")]
        subject: Option<Reference>,
        /// When it was made.
        authored_on: Option<DateTime>,
        /// When it changed last.
        last_modified: Option<DateTime>,
        /// Who asked.
        requester: Option<Reference>,
        /// Who has to read.
        owner: Option<Reference>,
        /// Remarks.
        note: Vec<Annotation>,
    }
}

resource! {
    /// Who did what to which resource (NEN 7510, NEN 7513).
    AuditEvent {
        /// What happened.
        #[serde(rename = "type")]
        kind: Option<Coding>,
        /// More of what happened.
        subtype: Vec<Coding>,
        /// `C`, `R`, `U`, `D` or `E`.
        action: Option<String>,
        /// When it was recorded.
        recorded: Option<DateTime>,
        /// `0` success, `4`, `8`, `12` failures.
        outcome: Option<String>,
        /// The same, for people.
        outcome_desc: Option<String>,
        /// Who did it.
        agent: Vec<AuditAgent>,
        /// Who recorded it.
        source: Option<AuditSource>,
        /// What it was done to.
        entity: Vec<AuditEntity>,
    }
}

element! {
    /// Somebody or something that took part in an audited action.
    AuditAgent {
        /// How it took part.
        #[serde(rename = "type")]
        kind: Option<CodeableConcept>,
        /// Its roles.
        role: Vec<CodeableConcept>,
        /// Who it is.
        who: Option<Reference>,
        /// Another id, such as a Matrix id.
        alt_id: Option<String>,
        /// Its name.
        name: Option<String>,
        /// Whether it started the action.
        requestor: Option<bool>,
    }
}

element! {
    /// The recorder of an audited action.
    AuditSource {
        /// Where it stands.
        site: Option<String>,
        /// What it is.
        observer: Option<Reference>,
        /// What kind it is.
        #[serde(rename = "type")]
        kind: Vec<Coding>,
    }
}

element! {
    /// What an audited action was done to.
    AuditEntity {
        /// The resource, in its version.
        what: Option<Reference>,
        /// What kind it is.
        #[serde(rename = "type")]
        kind: Option<Coding>,
        /// Its role in the action.
        role: Option<Coding>,
        /// Where it is in its life.
        lifecycle: Option<Coding>,
        /// What was searched for, in base64.
        query: Option<String>,
    }
}
