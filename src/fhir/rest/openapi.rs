//! The OpenAPI description (3.0.3) of the REST interface, made of the same tables that it works by.

use serde_json::{Map, Value, json};

use crate::fhir::{
    definitions::{Kind, Member, R4, SearchKind, Structure},
    resources::ResourceType,
};

/// The description; `base` is the address of the interface.
pub fn description(base: &str) -> Value {
    let mut paths = Map::new();
    paths.insert(
        "/metadata".into(),
        json!({"get": operation("capabilities", "What the server can do", &[], None, &["200"])}),
    );
    paths.insert("/".into(), json!({
        "post": operation("bundle", "A batch or a transaction", &[], Some("Bundle"), &["200", "400", "405", "412", "413", "415", "422"])
    }));
    let since = [parameter("_since", "query", json!({"type": "string", "format": "date-time"})), count()];
    paths
        .insert("/_history".into(), json!({"get": operation("history", "All changes", &since, None, &["200", "400"])}));
    for kind in R4.stored() {
        of_type(kind, &since, &mut paths);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "care-federation: embedded FHIR R4 endpoint",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "EUPL-1.2"},
        },
        "servers": [{"url": base}],
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "SMART scopes"}},
            "schemas": schemas(),
        },
    })
}

fn of_type(kind: ResourceType, since: &[Value], paths: &mut Map<String, Value>) {
    let name = kind.as_str();
    let id = parameter("id", "path", json!({"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"}));
    let version = parameter("version", "path", json!({"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"}));
    // Any text: what is no entity tag is not refused, it matches none (RFC 9110 sections 13.1.1 and 13.1.2); the search
    // in If-None-Exist is read as any other, and one that cannot be read is refused with 400 (R4, 3.1.0.8.1).
    let header = |name: &str| parameter(name, "header", json!({"type": "string"}));
    let summary = parameter("_summary", "query", json!({"type": "string", "enum": ["true", "text", "data", "false"]}));
    let elements = parameter("_elements", "query", some_text());
    let mut criteria = vec![parameter("_id", "query", some_text())];
    criteria.extend(R4.searches(kind).map(|(name, search)| {
        let schema = match search.kind {
            SearchKind::Date => json!({"type": "string", "minLength": 1, "description": "such as ge2026-01-01"}),
            _ => some_text(),
        };
        parameter(name, "query", schema)
    }));
    let mut searches = vec![count(), summary.clone(), elements.clone()];
    searches.extend(criteria.iter().cloned());
    criteria.push(header("If-Match"));
    let read = ["200", "304", "400", "404"];
    let write = ["200", "201", "400", "404", "405", "412", "413", "415", "422"];
    let create = operation(&format!("create{name}"), "Make a resource", &[header("If-None-Exist")], Some(name), &write);
    let search = operation(&format!("search{name}"), "Search", &searches, None, &["200", "400"]);
    let update =
        operation(&format!("updateWhere{name}"), "Make or change the one that matches", &criteria, Some(name), &write);
    paths.insert(format!("/{name}"), json!({"get": search, "post": create, "put": update}));
    let history = operation(&format!("history{name}"), "Changes of the type", since, None, &["200", "400"]);
    paths.insert(format!("/{name}/_history"), json!({"get": history}));
    let ids = [id.clone(), header("If-None-Match"), summary, elements];
    let puts = [id.clone(), header("If-Match")];
    paths.insert(
        format!("/{name}/{{id}}"),
        json!({
            "get": operation(&format!("read{name}"), "The newest version", &ids, None, &read),
            "put": operation(&format!("update{name}"), "Make or change a resource", &puts, Some(name), &write),
        }),
    );
    let mut with_id = vec![id.clone()];
    with_id.extend(since.iter().cloned());
    let history = operation(&format!("historyOf{name}"), "Its versions", &with_id, None, &["200", "400", "404"]);
    paths.insert(format!("/{name}/{{id}}/_history"), json!({"get": history}));
    let vread = operation(&format!("vread{name}"), "One version", &[id, version], None, &read);
    paths.insert(format!("/{name}/{{id}}/_history/{{version}}"), json!({"get": vread}));
}

fn count() -> Value {
    parameter("_count", "query", json!({"type": "integer", "minimum": 0}))
}

fn parameter(name: &str, place: &str, schema: Value) -> Value {
    json!({"name": name, "in": place, "required": place == "path", "schema": schema})
}

/// A text of a query, which must not be empty.
fn some_text() -> Value {
    json!({"type": "string", "minLength": 1})
}

fn operation(id: &str, summary: &str, parameters: &[Value], body: Option<&str>, statuses: &[&str]) -> Value {
    let content = json!({"application/fhir+json": {"schema": {"type": "object", "required": ["resourceType"]}}});
    let mut responses = Map::new();
    for status in statuses.iter().chain(&["401", "403", "406"]) {
        let answer = match *status {
            "304" => json!({"description": "The client has this version"}),
            "200" | "201" => json!({"description": "Done", "content": content}),
            _ => json!({"description": "An OperationOutcome says why", "content": content}),
        };
        responses.insert((*status).to_owned(), answer);
    }
    let mut operation = json!({
        "operationId": id, "summary": summary, "parameters": parameters, "responses": responses
    });
    if let Some(body) = body {
        let schema = json!({"$ref": format!("#/components/schemas/{body}")});
        operation["requestBody"] = json!({"required": true, "content": {"application/fhir+json": {"schema": schema}}});
    }
    operation
}

fn schemas() -> Map<String, Value> {
    let mut found = Map::new();
    // An extension may hold any data type, and each of those extensions: told in full, no tool that makes up requests
    // comes to an end.
    let extension = json!({
        "type": "object",
        "required": ["url"],
        "properties": {"url": primitive("uri", None), "valueString": primitive("string", None)},
    });
    found.insert("Extension".into(), extension);
    let mut wanted: Vec<String> = R4.stored().map(|kind| kind.to_string()).chain(["Bundle".to_owned()]).collect();
    while let Some(name) = wanted.pop() {
        if found.contains_key(&name) {
            continue;
        }
        if let Some(structure) = R4.structure(&name) {
            found.insert(name.clone(), schema(&name, structure, &mut wanted));
        }
    }
    found.insert("AnyResource".into(), json!({"type": "object", "required": ["resourceType"]}));
    found
}

fn schema(name: &str, structure: &Structure, wanted: &mut Vec<String>) -> Value {
    let mut properties = Map::new();
    if structure.member("implicitRules").is_some() {
        properties.insert("resourceType".into(), json!({"type": "string", "enum": [name]}));
    }
    let mut members: Vec<_> = structure.members().collect();
    members.sort_by_key(|(name, _)| *name);
    for (json_name, member) in members {
        properties.insert(json_name.to_owned(), of_member(member, wanted));
        if matches!(member.kind, Kind::Primitive(_)) {
            wanted.push("Element".to_owned());
            let element = json!({"$ref": "#/components/schemas/Element"});
            let element = if member.repeats { json!({"type": "array", "items": element}) } else { element };
            properties.insert(format!("_{json_name}"), element);
        }
    }
    let plain = structure.required().iter().filter(|required| required.names.len() == 1);
    let mut required: Vec<&str> = plain.flat_map(|required| required.names.iter().map(String::as_str)).collect();
    if structure.member("implicitRules").is_some() {
        required.push("resourceType");
    }
    let mut schema =
        json!({"type": "object", "minProperties": 1, "additionalProperties": false, "properties": properties});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn of_member(member: &Member, wanted: &mut Vec<String>) -> Value {
    let one = match &member.kind {
        Kind::Primitive(kind) => primitive(kind, member.codes.as_deref()),
        Kind::Resource => json!({"$ref": "#/components/schemas/AnyResource"}),
        Kind::Complex(name) => {
            wanted.push(name.clone());
            json!({"$ref": format!("#/components/schemas/{name}")})
        }
        Kind::Reference(_) => {
            wanted.push("Reference".to_owned());
            json!({"$ref": "#/components/schemas/Reference"})
        }
    };
    if member.repeats { json!({"type": "array", "minItems": 1, "items": one}) } else { one }
}

fn primitive(kind: &str, codes: Option<&[String]>) -> Value {
    if let Some(codes) = codes {
        return json!({"type": "string", "enum": codes});
    }
    match kind {
        "boolean" => json!({"type": "boolean"}),
        "decimal" => json!({"type": "number"}),
        "integer" => json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX}),
        "unsignedInt" => json!({"type": "integer", "minimum": 0, "maximum": i32::MAX}),
        "positiveInt" => json!({"type": "integer", "minimum": 1, "maximum": i32::MAX}),
        "id" => json!({"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"}),
        "date" => json!({"type": "string", "format": "date"}),
        "dateTime" | "instant" => json!({"type": "string", "format": "date-time"}),
        "uri" | "url" | "canonical" => json!({"type": "string", "pattern": "^\\S+$"}),
        "code" => json!({"type": "string", "pattern": "^[a-zA-Z0-9-]+$"}),
        _ => json!({"type": "string", "minLength": 1}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_that_is_named_is_there() {
        let text = description("http://127.0.0.1:1234/fhir").to_string();
        let found: Value = serde_json::from_str(&text).unwrap();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(found["components"]["schemas"][name].is_object(), "{name}");
        }
        assert!(found["paths"]["/Communication/{id}"]["put"].is_object());
    }
}
