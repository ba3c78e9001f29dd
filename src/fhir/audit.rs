//! What the AuditEvents of endpoint and bridge have in common.

use serde_json::json;

use super::resources::Resource;
use crate::service::trace::Trace;

/// Extensions of the OZO guide for the trace in which something happened. The guide names them by id; the address is
/// that of its other extensions.
const TRACE_ID: &str = "http://ozoverbindzorg.nl/fhir/StructureDefinition/ozo-trace-id";
const SPAN_ID: &str = "http://ozoverbindzorg.nl/fhir/StructureDefinition/ozo-span-id";

/// Writes down in which trace something happened, as the OZO guide has it.
pub fn put_trace(event: &mut Resource, trace: &Trace) {
    let extensions = json!([
        { "url": TRACE_ID, "valueString": trace.id() },
        { "url": SPAN_ID, "valueString": trace.span() },
    ]);
    event.members_mut().insert("extension".to_owned(), extensions);
}
