//! Strict validation: is this JSON the R4 resource that it says it is? (R4, 2.6.2 JSON; 2.24 data types.)
//!
//! Every element is checked against the definitions, data types included: unknown members, cardinalities, types,
//! formats, required codes, targets of references, narratives, and the invariants that R4 has for data types and for the
//! resource types of the mapping. What is wrong is
//! named by its FHIRPath and never by its value, because a value could be patient data.

mod formats;
mod invariants;
mod narrative;
mod others;
mod references;

use serde_json::{Map, Value};

use super::{
    definitions::{Kind, Member, R4, Structure},
    resources::{BundleType, Issue, IssueType, OperationOutcome, Resource},
};

/// At most so many issues are reported; a broken resource of any size gets a short answer.
const MOST_ISSUES: usize = 50;

/// Checks a resource.
///
/// # Errors
/// An outcome with everything that is wrong, up to a limit.
pub fn validate(resource: &Resource) -> Result<(), Box<OperationOutcome>> {
    let is_transaction = resource.type_name() == "Bundle"
        && resource.members().get("type").and_then(Value::as_str) == Some(BundleType::Transaction.as_str());
    let contained = contained_ids(resource.members());
    let mut validator = Validator { issues: Vec::new(), contained, is_transaction };
    validator.resource(resource.type_name(), resource.members(), false);
    if validator.issues.is_empty() {
        return Ok(());
    }
    validator.issues.truncate(MOST_ISSUES);
    Err(Box::new(OperationOutcome { issue: validator.issues, ..OperationOutcome::default() }))
}

struct Validator {
    issues: Vec<Issue>,
    /// The ids that `#…` may refer to.
    contained: Vec<String>,
    /// Whether references may be conditional.
    is_transaction: bool,
}

fn contained_ids(members: &Map<String, Value>) -> Vec<String> {
    let list = members.get("contained").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|resource| Some(resource.get("id")?.as_str()?.to_owned())).collect()
}

// === impl Validator ===

impl Validator {
    fn issue(&mut self, code: IssueType, path: &str, text: impl Into<String>) {
        // One more than is shown, so that the walk can stop.
        if self.issues.len() <= MOST_ISSUES {
            self.issues.push(Issue::error(code, text).at(path));
        }
    }

    fn is_full(&self) -> bool {
        self.issues.len() > MOST_ISSUES
    }

    /// Checks a resource whose FHIRPath is `path`.
    fn resource(&mut self, path: &str, members: &Map<String, Value>, is_contained: bool) {
        let Some(Value::String(name)) = members.get("resourceType") else {
            return self.issue(IssueType::Structure, path, "`resourceType` is missing or not a text");
        };
        match R4.structure(name) {
            Some(structure) if !name.contains('.') && structure.member("implicitRules").is_some() => {
                self.object(path, structure, members, true);
                let issues = &mut self.issues;
                invariants::element(name, members, &mut |text| issues.push(invariant(path, text)));
                if is_contained {
                    invariants::contained(members, &mut |text| self.issues.push(invariant(path, text)));
                }
            }
            // Within another resource, types stand that this server keeps none of: their form is not looked at.
            _ if is_contained && others::is_type(name) => {
                invariants::contained(members, &mut |text| self.issues.push(invariant(path, text)));
            }
            _ => self.issue(IssueType::NotSupported, path, "this resource type is not known here"),
        }
    }

    /// Checks the members of a resource or an element.
    fn object(&mut self, path: &str, structure: &Structure, members: &Map<String, Value>, is_resource: bool) {
        if members.is_empty() {
            return self.issue(IssueType::Structure, path, "an object must not be empty");
        }
        for (name, value) in members {
            if self.is_full() {
                return;
            }
            if is_resource && name == "resourceType" {
                continue;
            }
            match name.strip_prefix('_') {
                Some(plain) => self.primitive_extension(path, structure, members, plain, value),
                None => match structure.member(name) {
                    Some(member) => self.member(path, member, value, members.get(&format!("_{name}"))),
                    None => self.issue(IssueType::Structure, &format!("{path}.{}", short(name)), "no such member"),
                },
            }
        }
        self.cardinalities(path, structure, members);
    }

    fn cardinalities(&mut self, path: &str, structure: &Structure, members: &Map<String, Value>) {
        let is_there = |name: &str| members.contains_key(name) || members.contains_key(&format!("_{name}"));
        for required in structure.required() {
            if !required.names.iter().any(|name| is_there(name)) {
                let path = format!("{path}.{}", required.element);
                self.issue(IssueType::Required, &path, "a value is required");
            }
        }
        let mut choices = std::collections::BTreeMap::<&str, &str>::new();
        for name in members.keys().map(|name| name.strip_prefix('_').unwrap_or(name)) {
            let Some(member) = structure.member(name).filter(|member| member.choice) else { continue };
            if *choices.entry(&member.element).or_insert(name) != name {
                let path = format!("{path}.{}", member.element);
                self.issue(IssueType::Structure, &path, "only one of a choice may be there");
            }
        }
    }

    /// Checks a value, whole: a list where it repeats.
    fn member(&mut self, path: &str, member: &Member, value: &Value, extension: Option<&Value>) {
        let path = format!("{path}.{}", member.element);
        match value {
            Value::Array(_) if !member.repeats => {
                self.issue(IssueType::Structure, &path, "only one value is allowed, without a list");
            }
            Value::Array(list) if list.is_empty() => {
                self.issue(IssueType::Structure, &path, "a list must not be empty");
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    if self.is_full() {
                        return;
                    }
                    let stands_for = value.is_null() && matches!(member.kind, Kind::Primitive(_));
                    if stands_for && extension.and_then(|list| list.get(index)).is_some_and(Value::is_object) {
                        continue;
                    }
                    self.value(&format!("{path}[{index}]"), member, value);
                }
            }
            _ if member.repeats => self.issue(IssueType::Structure, &path, "a list is required"),
            value => self.value(&path, member, value),
        }
    }

    /// Checks one value.
    fn value(&mut self, path: &str, member: &Member, value: &Value) {
        match (&member.kind, value) {
            (_, Value::Null) => self.issue(IssueType::Structure, path, "`null` is not allowed here"),
            (Kind::Primitive(kind), value) => self.primitive(path, kind, member.codes.as_deref(), value),
            (Kind::Resource, Value::Object(members)) => {
                let contained = member.element == "contained";
                let own = if contained { None } else { Some(contained_ids(members)) };
                // A resource in a bundle has its own contained resources.
                let outer = own.map(|own| std::mem::replace(&mut self.contained, own));
                self.resource(path, members, contained);
                if let Some(outer) = outer {
                    self.contained = outer;
                }
            }
            (Kind::Complex(kind), Value::Object(members)) => self.element(path, kind, members),
            (Kind::Reference(targets), Value::Object(members)) => {
                self.element(path, "Reference", members);
                self.target(path, targets, members);
            }
            _ => self.issue(IssueType::Structure, path, format!("an object is required: {}", member.kind.name())),
        }
    }

    fn element(&mut self, path: &str, kind: &str, members: &Map<String, Value>) {
        let Some(structure) = R4.structure(kind) else { return };
        self.object(path, structure, members, false);
        let issues = &mut self.issues;
        invariants::element(kind, members, &mut |text| issues.push(invariant(path, text)));
    }

    fn primitive(&mut self, path: &str, kind: &str, codes: Option<&[String]>, value: &Value) {
        if let Err(text) = formats::check(kind, value) {
            return self.issue(IssueType::Value, path, text);
        }
        if let (Some(codes), Value::String(code)) = (codes, value)
            && !codes.iter().any(|known| known == code)
        {
            let known = if codes.len() <= 20 { format!(": {}", codes.join(", ")) } else { String::new() };
            self.issue(IssueType::CodeInvalid, path, format!("not a code that is allowed here{known}"));
        }
    }

    /// Checks `_name`: the id and extensions of a primitive member.
    fn primitive_extension(
        &mut self,
        path: &str,
        structure: &Structure,
        members: &Map<String, Value>,
        name: &str,
        value: &Value,
    ) {
        let member = structure.member(name).filter(|member| matches!(member.kind, Kind::Primitive(_)));
        let Some(member) = member else {
            return self.issue(IssueType::Structure, &format!("{path}._{}", short(name)), "no such primitive member");
        };
        let path = format!("{path}.{}", member.element);
        match value {
            Value::Array(list) if member.repeats && !list.is_empty() => {
                if let Some(Value::Array(values)) = members.get(name)
                    && values.len() != list.len()
                {
                    self.issue(IssueType::Structure, &path, "the list and the list of its extensions differ in length");
                }
                for (index, value) in list.iter().enumerate().filter(|(_, value)| !value.is_null()) {
                    self.extended(&format!("{path}[{index}]"), value);
                }
                if list.iter().all(Value::is_null) {
                    self.issue(IssueType::Structure, &path, "a list of extensions must hold one");
                }
            }
            value if !member.repeats => self.extended(&path, value),
            _ => self.issue(IssueType::Structure, &path, "the extensions of a list must be a list"),
        }
    }

    fn extended(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(members) => self.element(path, "Element", members),
            _ => self.issue(IssueType::Structure, path, "the extensions of a value must be an object"),
        }
    }

    /// Checks that a literal reference can be one, and points to an allowed type.
    fn target(&mut self, path: &str, targets: &[String], members: &Map<String, Value>) {
        let Some(reference) = members.get("reference").and_then(Value::as_str) else { return };
        let at = format!("{path}.reference");
        if let Some(id) = reference.strip_prefix('#') {
            if !id.is_empty() && !self.contained.iter().any(|found| found == id) {
                self.issue(IssueType::Invariant, &at, "ref-1: there is no contained resource with this id");
            }
        } else if let Err(text) = references::check(reference, targets, self.is_transaction) {
            self.issue(IssueType::Value, &at, text);
        }
    }
}

/// A member's name as it is repeated to whoever sent it: not as long as it likes.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

fn invariant(path: &str, text: &str) -> Issue {
    Issue::error(IssueType::Invariant, text).at(path)
}

#[cfg(test)]
pub(crate) mod made_up;
#[cfg(test)]
mod tests;
