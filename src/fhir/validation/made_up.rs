//! Resources made up from the definitions: any member may be there, with a value that its type allows.

use serde_json::{Map, Value, json};

use crate::fhir::{
    definitions::{Kind, Member, R4, Structure},
    resources::{Resource, ResourceType},
};

/// Elements are nested so deep at most.
const DEEPEST: u32 = 4;

/// Makes one up; the same seed gives the same resource.
pub(crate) fn resource(kind: ResourceType, seed: u64) -> Resource {
    let mut maker = Maker(seed | 1);
    let structure = R4.structure(kind.as_str()).unwrap();
    let mut members = Map::from_iter([("resourceType".to_owned(), Value::from(kind.as_str()))]);
    maker.fill(kind.as_str(), structure, &mut members, 0);
    Resource::try_from(members).unwrap()
}

/// A sequence of numbers by chance (xorshift64).
struct Maker(u64);

impl Maker {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_of(&mut self, number: u64) -> bool {
        self.next().is_multiple_of(number)
    }

    fn choose<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        let index = usize::try_from(self.next() % u64::try_from(list.len()).unwrap()).unwrap();
        &list[index]
    }

    fn fill(&mut self, kind: &str, structure: &Structure, members: &mut Map<String, Value>, depth: u32) {
        let mut names: Vec<(&str, &Member)> = structure.members().collect();
        names.sort_by_key(|(name, _)| *name);
        let required: Vec<String> =
            structure.required().iter().map(|required| self.choose(&required.names).clone()).collect();
        let mut choices: Vec<&str> = Vec::new();
        for name in &required {
            choices.push(&structure.member(name).unwrap().element);
        }
        for (name, member) in names {
            let is_required = required.iter().any(|required| required == name);
            let is_chosen = member.choice && choices.contains(&member.element.as_str());
            if !is_required && (is_chosen || depth >= DEEPEST || !self.one_of(3) || name == "contained") {
                continue;
            }
            if member.choice && !is_required {
                choices.push(&member.element);
            }
            self.member(name, member, members, depth);
        }
        settle(kind, members);
        if members.is_empty() || members.len() == usize::from(members.contains_key("resourceType")) {
            members.insert("id".to_owned(), "made-up".into());
        }
    }

    fn member(&mut self, name: &str, member: &Member, members: &mut Map<String, Value>, depth: u32) {
        let number = if member.repeats { 1 + self.next() % 2 } else { 1 };
        let mut values: Vec<Value> = (0..number).map(|_| self.value(member, depth)).collect();
        let is_primitive = matches!(member.kind, Kind::Primitive(_));
        if is_primitive && self.one_of(4) {
            let extension = json!({"extension": [{"url": "http://made.up", "valueDecimal": self.decimal()}]});
            if member.repeats {
                let extensions: Vec<Value> = values.iter().map(|_| extension.clone()).collect();
                // `OperationOutcome.issue.expression` is the one list of texts that must hold texts only.
                if self.one_of(2) && name != "expression" {
                    values[0] = Value::Null;
                }
                members.insert(format!("_{name}"), extensions.into());
            } else {
                members.insert(format!("_{name}"), extension);
            }
        }
        let value = if member.repeats { Value::Array(values) } else { values.remove(0) };
        members.insert(name.to_owned(), value);
    }

    fn value(&mut self, member: &Member, depth: u32) -> Value {
        match &member.kind {
            Kind::Primitive(kind) => match &member.codes {
                Some(codes) => self.choose(codes).as_str().into(),
                None => self.primitive(kind),
            },
            Kind::Reference(targets) => {
                let target = if targets.is_empty() { "Patient".to_owned() } else { self.choose(targets).clone() };
                json!({"reference": format!("{target}/{}", self.next()), "display": self.text()})
            }
            Kind::Resource => json!({"resourceType": "Organization", "id": "inner", "name": self.text()}),
            Kind::Complex(kind) => {
                let mut members = Map::new();
                self.fill(kind, R4.structure(kind).unwrap(), &mut members, depth + 1);
                Value::Object(members)
            }
        }
    }

    fn primitive(&mut self, kind: &str) -> Value {
        match kind {
            "boolean" => self.one_of(2).into(),
            "decimal" => self.decimal(),
            "integer" | "unsignedInt" | "positiveInt" => (1 + self.next() % 1000).into(),
            "date" => (*self.choose(&["2026", "2026-11", "2024-02-29"])).into(),
            "dateTime" => (*self.choose(&["2026", "2026-11-22T17:50:58.120+01:00"])).into(),
            "instant" => "2026-11-22T17:50:58.12345678Z".into(),
            "time" => "17:50:58".into(),
            "base64Binary" => "aGFsbG8=".into(),
            "xhtml" => "<div xmlns=\"http://www.w3.org/1999/xhtml\">Żółć &amp; 👋</div>".into(),
            "id" => format!("made-up.{}", self.next() % 1000).into(),
            "oid" => "urn:oid:2.16.840.1.113883.2.4.6.3".into(),
            "uuid" => "urn:uuid:c757873d-ec9a-4326-a141-556f43239520".into(),
            "code" => "made-up".into(),
            "uri" | "url" | "canonical" => format!("http://made.up/{}", self.next()).into(),
            _ => self.text().into(),
        }
    }

    fn text(&mut self) -> String {
        (*self.choose(&["hallo", "Zoë 👋", "\\ \"quoted\" \n", " ", "مرحبا", "{\"$serde_json::private::Number\":1}"]))
            .to_owned()
    }

    /// A number whose digits a floating-point number would not keep.
    fn decimal(&mut self) -> Value {
        let digits =
            ["1.10", "0.00", "-0.0", "1e-22", "3.141592653589793238462643383279", "123456789012345678901234567890"];
        serde_json::from_str(self.choose::<&str>(&digits)).unwrap()
    }
}

/// Makes the members agree with the invariants.
fn settle(kind: &str, members: &mut Map<String, Value>) {
    match kind {
        "Extension" => {
            let has_value = members.keys().any(|name| name.starts_with("value"));
            if has_value {
                members.shift_remove("extension");
            } else if !members.contains_key("extension") {
                members.insert("valueBoolean".to_owned(), true.into());
            }
        }
        "Period" => {
            members.shift_remove("start");
        }
        "Attachment" if members.contains_key("data") => {
            members.insert("contentType".to_owned(), "text/plain".into());
        }
        "ContactPoint" if members.contains_key("value") => {
            members.insert("system".to_owned(), "other".into());
        }
        "Quantity" | "Age" | "Count" | "Distance" | "Duration" => {
            members.shift_remove("code");
        }
        "AuditEvent.entity" | "Bundle.entry" => {
            for name in ["query", "_query", "fullUrl"] {
                members.shift_remove(name);
            }
        }
        "CareTeam.participant" => {
            members.shift_remove("onBehalfOf");
        }
        "Organization" => {
            members.insert("name".to_owned(), "made up".into());
            for name in ["telecom", "address"] {
                members.shift_remove(name);
            }
        }
        "Patient.contact" => {
            members.insert("address".to_owned(), json!({"text": "made up"}));
        }
        "Task" => {
            members.shift_remove("lastModified");
        }
        _ => {}
    }
}
