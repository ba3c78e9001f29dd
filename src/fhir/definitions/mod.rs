//! The structure of R4 as data: what members each type has, which codes they allow, what can be searched for.
//!
//! The three JSON files are made by `generate.py` from HL7's definitions (CC0 1.0); see there for their notation.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use super::resources::ResourceType;

/// The definitions of R4 (4.0.1).
pub static R4: LazyLock<Definitions> = LazyLock::new(|| {
    Definitions::read(include_str!("elements.json"), include_str!("codes.json"), include_str!("search.json"))
});

/// The version of FHIR that is spoken here.
pub const FHIR_VERSION: &str = "4.0.1";

/// All types, codes and search parameters.
#[derive(Debug, Default)]
pub struct Definitions {
    types: HashMap<String, Structure>,
    searches: BTreeMap<String, BTreeMap<String, SearchDefinition>>,
}

/// What a type consists of.
#[derive(Debug, Default)]
pub struct Structure {
    members: HashMap<String, Member>,
    required: Vec<Required>,
}

/// A member that must be there: one of these JSON names.
#[derive(Debug)]
pub struct Required {
    /// The element's name; that of a choice without its `[x]`.
    pub element: String,
    /// The JSON names that it may have.
    pub names: Vec<String>,
}

/// A member of a type, by its JSON name.
#[derive(Debug)]
pub struct Member {
    /// The element's name; that of a choice without its `[x]`.
    pub element: String,
    /// Whether it is one of a choice: only one of them may be there.
    pub choice: bool,
    /// Whether it is a list.
    pub repeats: bool,
    /// What it holds.
    pub kind: Kind,
    /// Which codes it allows, where they are listed.
    pub codes: Option<Vec<String>>,
    /// The code system that those codes are of; a `code` does not say it itself.
    pub system: Option<String>,
    /// Whether it belongs to a resource's summary.
    pub summary: bool,
}

/// What a member holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One of the primitive types, which start with a small letter.
    Primitive(String),
    /// A data type or backbone element.
    Complex(String),
    /// A reference to resources of these types; empty for any.
    Reference(Vec<String>),
    /// A whole resource.
    Resource,
}

/// A search parameter of a resource type.
#[derive(Debug, Clone)]
pub struct SearchDefinition {
    /// How values are compared.
    pub kind: SearchKind,
    /// Where the values are.
    pub paths: Vec<SearchPath>,
    /// Whether the value is `true` where a path leads to something other than `false`, and else `false`.
    pub is_flag: bool,
}

/// How the values of a search parameter are compared (R4, 3.1.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchKind {
    /// Codes and identifiers.
    Token,
    /// References.
    Reference,
    /// Dates and periods.
    Date,
    /// Texts, by their beginning.
    String,
    /// URIs, whole.
    Uri,
}

/// Where a search parameter finds its values.
#[derive(Debug, Clone)]
pub struct SearchPath {
    /// JSON names from the resource on.
    pub steps: Vec<String>,
    /// Only references to this type.
    pub target: Option<String>,
    /// Only contact points of this system.
    pub system: Option<String>,
}

// === impl Definitions ===

impl Definitions {
    fn read(elements: &str, codes: &str, search: &str) -> Self {
        type Table = BTreeMap<String, BTreeMap<String, String>>;
        // The files are part of the program; a test holds that they can be read.
        let elements: Table = serde_json::from_str(elements).unwrap_or_default();
        let codes: HashMap<String, Vec<String>> = serde_json::from_str(codes).unwrap_or_default();
        let search: Table = serde_json::from_str(search).unwrap_or_default();
        let any = elements.get("*").and_then(|row| row.get("types")).cloned().unwrap_or_default();
        let structure = |rows: &BTreeMap<String, String>| {
            let mut structure = Structure::default();
            for (name, notation) in rows {
                structure.add(name, notation, &any, &codes);
            }
            structure
        };
        let types =
            elements.iter().filter(|(name, _)| *name != "*").map(|(name, rows)| (name.clone(), structure(rows)));
        let row = |row: BTreeMap<String, String>| {
            row.into_iter().filter_map(|(name, notation)| Some((name, SearchDefinition::read(&notation)?))).collect()
        };
        Self { types: types.collect(), searches: search.into_iter().map(|(kind, found)| (kind, row(found))).collect() }
    }

    /// The structure of a resource type, data type or backbone element (`CareTeam.participant`).
    pub fn structure(&self, name: &str) -> Option<&Structure> {
        self.types.get(name)
    }

    /// The search parameters of a resource type, by name.
    pub fn searches(&self, kind: ResourceType) -> impl Iterator<Item = (&str, &SearchDefinition)> {
        self.searches.get(kind.as_str()).into_iter().flatten().map(|(name, definition)| (name.as_str(), definition))
    }

    /// One search parameter of a resource type.
    pub fn search(&self, kind: ResourceType, name: &str) -> Option<&SearchDefinition> {
        self.searches.get(kind.as_str())?.get(name)
    }

    /// The member to which a path of JSON names leads from a resource type.
    pub fn member_at(&self, kind: ResourceType, steps: &[String]) -> Option<&Member> {
        let (last, before) = steps.split_last()?;
        let within = before.iter().try_fold(self.structure(kind.as_str())?, |structure, step| {
            self.structure(structure.member(step)?.kind.name())
        })?;
        within.member(last)
    }

    /// The resource types that can be kept and searched.
    pub fn stored(&self) -> impl Iterator<Item = ResourceType> {
        self.searches.keys().filter_map(|name| name.parse().ok())
    }

    /// Whether resources of the type can be kept.
    pub fn is_stored(&self, kind: ResourceType) -> bool {
        self.searches.contains_key(kind.as_str())
    }
}

// === impl Structure ===

impl Structure {
    /// The member with a JSON name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// What must be there.
    pub fn required(&self) -> &[Required] {
        &self.required
    }

    /// All members with their JSON names.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member))
    }

    /// Adds a member in the notation of `elements.json`: `1..1 string|Attachment`, `0..1 code =care-team-status Σ`.
    fn add(&mut self, name: &str, notation: &str, any: &str, codes: &HashMap<String, Vec<String>>) {
        let mut words = notation.split(' ');
        let (cardinality, kinds) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let rest: Vec<&str> = words.collect();
        let set = rest.iter().find_map(|word| word.strip_prefix('='));
        let (codes, summary) = (set.and_then(|set| codes.get(set)).cloned(), rest.contains(&"Σ"));
        let (minimum, maximum) = cardinality.split_once("..").unwrap_or_default();
        let element = name.strip_suffix("[x]").unwrap_or(name);
        let choice = element.len() != name.len();
        let kinds = if kinds == "*" { any } else { kinds };
        let mut names = Vec::new();
        for kind in kinds.split('|') {
            let kind = Kind::read(kind);
            let json = if choice { format!("{element}{}", capitalised(kind.name())) } else { element.to_owned() };
            names.push(json.clone());
            let member = Member {
                element: element.to_owned(),
                choice,
                repeats: maximum != "1",
                kind,
                codes: codes.clone(),
                system: set.map(|set| format!("http://hl7.org/fhir/{set}")),
                summary,
            };
            self.members.insert(json, member);
        }
        if minimum != "0" {
            self.required.push(Required { element: element.to_owned(), names });
        }
    }
}

// === impl Kind ===

impl Kind {
    fn read(notation: &str) -> Self {
        if notation == "Resource" {
            return Self::Resource;
        }
        if let Some(targets) = notation.strip_prefix("Reference") {
            let targets = targets.trim_matches(['(', ')']).split(',').filter(|target| !target.is_empty());
            return Self::Reference(targets.map(str::to_owned).collect());
        }
        match notation.starts_with(|first: char| first.is_ascii_lowercase()) {
            true => Self::Primitive(notation.to_owned()),
            false => Self::Complex(notation.to_owned()),
        }
    }

    /// The type's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Primitive(name) | Self::Complex(name) => name,
            Self::Reference(_) => "Reference",
            Self::Resource => "Resource",
        }
    }
}

// === impl SearchDefinition ===

impl SearchDefinition {
    fn read(notation: &str) -> Option<Self> {
        let (word, paths) = notation.split_once(' ')?;
        let kind = match word {
            "token" | "flag" => SearchKind::Token,
            "reference" => SearchKind::Reference,
            "date" => SearchKind::Date,
            "string" => SearchKind::String,
            "uri" => SearchKind::Uri,
            _ => return None,
        };
        Some(Self { kind, paths: paths.split(" | ").map(SearchPath::read).collect(), is_flag: word == "flag" })
    }
}

// === impl SearchKind ===

impl SearchKind {
    /// The name as FHIR writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Reference => "reference",
            Self::Date => "date",
            Self::String => "string",
            Self::Uri => "uri",
        }
    }
}

// === impl SearchPath ===

impl SearchPath {
    fn read(notation: &str) -> Self {
        let (path, rest) = notation.split_at(notation.find(['[', '{']).unwrap_or(notation.len()));
        let inner = |open: char, close: char| Some(rest.strip_prefix(open)?.strip_suffix(close)?.to_owned());
        Self { steps: path.split('.').map(str::to_owned).collect(), target: inner('[', ']'), system: inner('{', '}') }
    }
}

fn capitalised(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_named_is_there() {
        for (name, structure) in &R4.types {
            for (member, found) in structure.members() {
                if let Kind::Complex(kind) = &found.kind {
                    assert!(R4.structure(kind).is_some(), "{name}.{member}: {kind}");
                }
            }
        }
        assert_eq!(R4.stored().count(), 13);
        for kind in ResourceType::ALL {
            assert!(R4.structure(kind.as_str()).is_some(), "{kind}");
        }
    }

    #[test]
    fn the_notation_is_read() {
        let payload = R4.structure("Communication.payload").unwrap();
        assert_eq!(payload.required()[0].names, ["contentString", "contentAttachment", "contentReference"]);
        assert!(payload.member("contentString").unwrap().choice);
        let team = R4.structure("CareTeam").unwrap();
        assert_eq!(team.member("status").unwrap().codes.as_ref().unwrap().len(), 5);
        assert_eq!(team.member("subject").unwrap().kind, Kind::Reference(vec!["Patient".into(), "Group".into()]));
        assert!(team.member("participant").unwrap().repeats);
    }

    #[test]
    fn search_paths_lead_to_members() {
        for kind in R4.stored() {
            for (name, search) in R4.searches(kind) {
                for path in &search.paths {
                    assert!(R4.member_at(kind, &path.steps).is_some(), "{kind} {name}: {:?}", path.steps);
                }
            }
        }
    }
}
