//! How FHIR elements become Rust structs: typed where the bridge looks, everything else kept as it came.

use serde_json::{Map, Value};

/// The members of an element that have no field of their own, among them the extensions of primitive members
/// (`_birthDate`). They are written back as they were read.
pub(crate) type Rest = Map<String, Value>;

/// Whether a member is left out of the JSON: FHIR has no `null`, no empty list and no empty object (R4, 2.6.2).
pub(crate) trait Absent {
    /// True when there is nothing to write.
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Declares an element: every member may be absent, and what has no field is kept in `rest`.
///
/// Even members that FHIR requires may be absent, because FHIR lets an extension stand for a value that is not known.
macro_rules! element {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $($(#[$field_meta])*
            #[serde(skip_serializing_if = "crate::fhir::resources::element::Absent::is_absent")]
            pub $field: $type,)*
            /// What has no field above.
            #[serde(flatten)]
            pub rest: crate::fhir::resources::element::Rest,
        }
    };
}

/// Declares a resource: an [`element!`] with the members that every resource has, and its [`ResourceType`].
///
/// [`ResourceType`]: crate::fhir::resources::ResourceType
macro_rules! resource {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $crate::fhir::resources::element::element! {
            $(#[$meta])*
            $name {
                /// The logical id.
                id: Option<crate::fhir::id::Id>,
                /// Version, time of the last change, profiles, tags.
                meta: Option<crate::fhir::resources::datatypes::Meta>,
                $($(#[$field_meta])* $field: $type,)*
            }
        }

        impl crate::fhir::resources::Typed for $name {
            const TYPE: crate::fhir::resources::ResourceType = crate::fhir::resources::ResourceType::$name;
        }
    };
}

/// Declares a code with its known values; another value is kept as `Other`.
macro_rules! code {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* #[doc = concat!("`", $text, "`")] $variant,)*
            /// A value that R4 does not know.
            Other(String),
        }

        impl $name {
            /// The value as FHIR writes it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from(String::deserialize(deserializer)?.as_str()))
            }
        }
    };
}

pub(crate) use {code, element, resource};
