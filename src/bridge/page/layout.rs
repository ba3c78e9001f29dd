//! What all pages share: head, sections, who looks, and small pieces.

use maud::{DOCTYPE, Markup, html};

use super::visit::Visit;
use crate::{
    bridge::{
        identity::{Instance, Kind},
        store::Millis,
        words::Word,
    },
    fhir::instant::DateTime,
};

const SECTIONS: [(&str, Word); 5] = [
    ("/", Word::Overview),
    ("/organisations", Word::Organisations),
    ("/teams", Word::Teams),
    ("/threads", Word::Threads),
    ("/queue", Word::Work),
];

/// A whole page.
pub(super) fn page(visit: &Visit, title: &str, path: &str, content: &Markup) -> Markup {
    let t = |word| visit.language.say(word);
    let is_here = |section: &str| if section == "/" { path == "/" } else { path.starts_with(section) };
    html! {
        (DOCTYPE)
        html lang=(visit.language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · fhir-bridge" }
                link rel="icon" href="/icon.svg";
                link rel="stylesheet" href="/style.css";
                script src="/live.js" defer {}
            }
            body {
                a.skip href="#content" { (t(Word::SkipToContent)) }
                header {
                    p.name { "fhir-bridge " span { (visit.desk.engine.names().server()) } }
                    nav aria-label=(t(Word::Navigation)) {
                        @for (section, word) in SECTIONS {
                            a href=(section) aria-current=[is_here(section).then_some("page")] { (t(word)) }
                        }
                    }
                    (who(visit))
                }
                main #content tabindex="-1" { (content) }
                footer {
                    p #live role="status" data-on=(t(Word::LiveOn)) data-off=(t(Word::LiveOff)) { (t(Word::LiveNone)) }
                    p { (t(Word::Universal)) }
                }
            }
        }
    }
}

fn who(visit: &Visit) -> Markup {
    let t = |word| visit.language.say(word);
    html! {
        @if let Some(name) = &visit.viewer.name {
            form.who method="post" action="/sign-out" {
                (visit.mark())
                span { (visit.language.say_with(Word::SignedInAs, name)) }
                button { (t(Word::SignOut)) }
            }
        } @else if visit.desk.viewers.has_tokens() {
            p.who { a href="/sign-in" { (t(Word::SignIn)) } }
        }
    }
}

/// A moment, to the second in UTC.
pub(super) fn time(at: Option<Millis>) -> Markup {
    let written = at.map(|at| DateTime::from_millis(at).as_str().to_owned());
    html! {
        @match &written {
            Some(written) => time datetime=(written) { (written.get(..19).unwrap_or_default().replace('T', " ")) },
            None => "–",
        }
    }
}

/// A resource, as a link to its page where it has one.
pub(super) fn link(place: &str) -> Markup {
    let instance = Instance::parse(place).ok();
    let page = instance.as_ref().and_then(|place| match place.kind() {
        Kind::CareTeam => Some(format!("/teams/{}", place.id())),
        Kind::CommunicationRequest => Some(format!("/threads/{}", place.id())),
        _ => None,
    });
    html! {
        @match page {
            Some(page) => a href=(page) { code { (place) } },
            None => code { (place) },
        }
    }
}

/// A list with nothing in it.
pub(super) fn nothing(visit: &Visit) -> Markup {
    html! { p.nothing { (visit.language.say(Word::Nothing)) } }
}
