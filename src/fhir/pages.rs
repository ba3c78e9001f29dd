//! Pages as the bundles that clients get.

use super::{
    query::Query,
    resources::{
        Bundle, BundleEntry, BundleLink, BundleType, EntryRequest, EntryResponse, EntrySearch, Resource, ResourceType,
    },
    server::{Mode, Page},
};

/// The result of a search. `base` is the server's address with a slash at its end.
pub fn searchset(page: &Page, base: &str, kind: ResourceType, query: &Query) -> Bundle {
    let own = if query.is_empty() { format!("{base}{kind}") } else { format!("{base}{kind}?{query}") };
    let mut bundle = of(page, base, BundleType::Searchset, own);
    for (entry, found) in bundle.entry.iter_mut().zip(&page.entries) {
        let mode = match found.mode {
            Mode::Match => "match",
            Mode::Include => "include",
            Mode::Outcome => "outcome",
        };
        entry.search = Some(EntrySearch { mode: Some(mode.to_owned()), ..EntrySearch::default() });
    }
    bundle
}

/// A history. `path` is its own address without the base.
pub fn history(page: &Page, base: &str, path: &str) -> Bundle {
    let mut bundle = of(page, base, BundleType::History, format!("{base}{path}"));
    for (entry, version) in bundle.entry.iter_mut().zip(&page.entries) {
        let Some(resource) = &entry.resource else { continue };
        let Some(key) = resource.key() else { continue };
        let status = if resource.version() == Some("1") { "201 Created" } else { "200 OK" };
        let (method, url) = if version.by_post { ("POST", key.kind.to_string()) } else { ("PUT", key.to_string()) };
        entry.response = Some(EntryResponse {
            status: Some(status.to_owned()),
            etag: resource.version().map(super::etag::write),
            last_modified: resource.last_updated(),
            ..EntryResponse::default()
        });
        entry.request =
            Some(EntryRequest { method: Some(method.to_owned()), url: Some(url), ..EntryRequest::default() });
    }
    bundle
}

fn of(page: &Page, base: &str, kind: BundleType, own: String) -> Bundle {
    let link = |relation: &str, url: String| BundleLink {
        relation: Some(relation.to_owned()),
        url: Some(url),
        ..BundleLink::default()
    };
    let mut links = vec![link("self", own)];
    links.extend(page.next.as_ref().map(|next| link("next", format!("{base}{}", next.0))));
    let entry = |resource: &Resource| BundleEntry {
        full_url: resource.key().map(|key| format!("{base}{key}")),
        resource: Some(resource.clone()),
        ..BundleEntry::default()
    };
    Bundle {
        kind: Some(kind),
        total: page.total,
        link: links,
        entry: page.entries.iter().map(|found| entry(&found.resource)).collect(),
        ..Bundle::default()
    }
}
