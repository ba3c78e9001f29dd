//! What the web page and the bot say, in Dutch and English: one table, so that neither language is forgotten.

/// A language that the bridge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Nederlands.
    Dutch,
    /// English.
    English,
}

macro_rules! words {
    ($($name:ident: $dutch:literal, $english:literal;)*) => {
        /// Something to say. A `{}` stands for what is filled in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Word {
            $(#[doc = $english] $name,)*
        }

        impl Word {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$name,)*];
        }

        impl Language {
            /// The word in this language.
            pub fn say(self, word: Word) -> &'static str {
                match (self, word) {
                    $((Self::Dutch, Word::$name) => $dutch, (Self::English, Word::$name) => $english,)*
                }
            }
        }
    };
}

words! {
    Overview: "Overzicht", "Overview";
    Organisations: "Organisaties", "Organisations";
    Teams: "Zorgteams", "Care teams";
    Threads: "Gesprekken", "Conversations";
    Work: "Werk", "Work";
    Team: "Zorgteam", "Care team";
    Thread: "Gesprek", "Conversation";
    SkipToContent: "Naar de inhoud", "Skip to content";
    Navigation: "Onderdelen", "Sections";
    LiveOn: "Deze pagina werkt zichzelf bij.", "This page keeps itself up to date.";
    LiveOff: "Geen verbinding met de brug; dit kan verouderd zijn.", "No connection with the bridge; this may be old.";
    LiveNone: "Herlaad de pagina om te zien wat er veranderd is.", "Reload the page to see what has changed.";
    Universal: "Tijden zijn in UTC.", "Times are in UTC.";
    SignIn: "Aanmelden", "Sign in";
    SignOut: "Afmelden", "Sign out";
    SignedInAs: "Aangemeld als {}", "Signed in as {}";
    Token: "Token", "Token";
    SignInWhy:
        "Zonder token toont deze pagina nummers, aantallen, toestanden en tijden. Met een token toont zij ook wat dat token toestaat.",
        "Without a token this page shows ids, counts, states and times. With one it also shows what that token allows.";
    WrongToken: "Dit token is niet bekend.", "This token is not known.";
    NoTokens: "Er zijn geen tokens ingesteld (page.viewers_file).", "No tokens are set up (page.viewers_file).";
    Health: "Gezondheid", "Health";
    Homeserver: "Homeserver", "Homeserver";
    FhirServer: "FHIR-server", "FHIR server";
    Reachable: "bereikbaar", "reachable";
    AwayFor: "weg sinds {} s", "away for {} s";
    Queue: "Wachtrij", "Queue";
    ReadyForMatrix: "te doen in Matrix", "to do in Matrix";
    ReadyForFhir: "te doen in FHIR", "to do in FHIR";
    Waiting: "wacht op iets", "waiting";
    Parked: "geparkeerd", "parked";
    RoomsLinked: "ruimtes en gesprekken gekoppeld", "rooms and spaces linked";
    MessagesLinked: "berichten op beide kanten", "messages on both sides";
    EventsTaken: "gebeurtenissen ontvangen", "events taken in";
    Throughput: "Doorvoer", "Throughput";
    ThroughputSays:
        "Laatste tien minuten, per tien seconden. Hoogste: {}.",
        "The last ten minutes, in steps of ten seconds. Highest: {}.";
    Identifier: "Nummer", "Id";
    Name: "Naam", "Name";
    Status: "Toestand", "Status";
    Changed: "Gewijzigd", "Changed";
    Room: "Ruimte", "Room";
    NoRoom: "geen ruimte", "no room";
    Active: "actief", "active";
    Inactive: "niet actief", "inactive";
    Members: "Leden", "Members";
    Person: "Persoon", "Person";
    Level: "Niveau", "Level";
    TakesPartAs: "Neemt deel als", "Takes part as";
    OwnUser: "eigen Matrix-gebruiker", "own Matrix user";
    Ghost: "gebruiker van de brug", "user of the bridge";
    Nothing: "Er is niets.", "There is nothing here.";
    Older: "Verder", "Further";
    Newest: "Naar het begin", "Back to the beginning";
    BothSides: "Beide kanten", "Both sides";
    SidesSay:
        "Links wat in FHIR staat, rechts wat in Matrix staat. Een verschil heeft een rand en een woord.",
        "On the left what FHIR has, on the right what Matrix has. A difference has a border and a word.";
    OnBoth: "gelijk", "both sides";
    OnlyFhir: "alleen in FHIR", "only in FHIR";
    OnlyMatrix: "alleen in Matrix", "only in Matrix";
    NotShown: "niet getoond in Matrix", "not shown in Matrix";
    OfTheBridge: "van de brug zelf", "the bridge's own";
    Withdrawn: "ingetrokken", "withdrawn";
    NotAsked: "niet nagegaan", "not checked";
    Differences: "Verschillen op deze pagina: {}", "Differences on this page: {}";
    At: "Tijd", "Time";
    Edit: "wijziging", "edit";
    Redaction: "intrekking", "withdrawal";
    SomebodyAt: "iemand van {}", "somebody at {}";
    Comparison: "Vergelijking", "Comparison";
    CompareThread: "Vergelijk en herstel dit gesprek", "Compare and repair this conversation";
    CompareAll: "Vergelijk en herstel alles", "Compare and repair everything";
    CompareNeedsToken: "Aanmelden is nodig om beide kanten te vergelijken.", "Sign in to compare both sides.";
    CompareBusy:
        "er wordt al veel vergeleken; probeer het straks weer",
        "much is being compared already; try again later";
    Compared: "Vergeleken", "Compared";
    Everything: "alles", "everything";
    Comparing: "bezig", "being compared";
    ComparedWhole: "klaar", "done";
    ComparedInPart: "niet afgemaakt", "not finished";
    Begun: "Begonnen", "Begun";
    Ended: "Klaar", "Ended";
    FoundDifferences: "Verschillen: {}", "Differences: {}";
    Difference: "Verschil", "Difference";
    Repair: "Herstel", "Repair";
    Repaired: "hersteld", "repaired";
    PutToWork: "aan het werk gezet", "put to work";
    RepairSays:
        "Wat ontbreekt is als werk opgeslagen en wordt alsnog overgebracht.",
        "What is missing was stored as work and is carried over now.";
    NotListed: "Niet getoond: {}", "Not listed: {}";
    WorkOfThread: "Werk van dit gesprek", "Work of this conversation";
    InOrder: "Banen die werken", "Lanes at work";
    LanesSay:
        "Een baan is wat op volgorde moet blijven: één gesprek in één richting.",
        "A lane is what must stay in order: one conversation in one direction.";
    Lane: "Baan", "Lane";
    Side: "Kant", "Side";
    Ready: "Te doen", "To do";
    AtHead: "Vooraan", "At its head";
    Tries: "Pogingen", "Tries";
    NextTry: "Volgende poging", "Next try";
    Now: "nu", "now";
    BeingDone: "wordt gedaan", "being done";
    Held: "Geparkeerd en wachtend", "Parked and waiting";
    Kind: "Soort", "Kind";
    Reason: "Reden", "Reason";
    Retry: "Opnieuw", "Retry";
    RetryNumber: "Werk {} opnieuw proberen", "Retry work {}";
    RetryAll: "Al het geparkeerde werk opnieuw", "Retry all parked work";
    RetryNeedsToken: "Aanmelden is nodig om werk opnieuw te laten doen.", "Sign in to put work back.";
    NotFound: "Dit is er niet.", "This is not here.";
    Unreadable: "Dit kan nu niet gelezen worden: {}", "This cannot be read now: {}";
    Expired: "Deze plaats in de lijst bestaat niet meer.", "This place in the list is no longer there.";
    NotAllowed: "Dit mag niet: {}", "This is not allowed: {}";
    OtherSite: "het verzoek komt van een andere website, of de pagina was te oud", "the request came from another site, or the page was too old";
    OtherHost: "deze naam hoort niet bij de brug (page.hosts)", "this name is not the bridge's (page.hosts)";
    NoRecord:
        "Teksten worden niet getoond: dat u ze ziet kon niet worden vastgelegd.",
        "Texts are not shown: that you see them could not be written down.";
    BotHelp:
        "Opdrachten, met !fhir ervoor (onder vier ogen hoeft dat niet):\nhulp: deze uitleg\nstand: hoe het met de brug en deze ruimte gaat\nwie: wie de deelnemers in FHIR zijn\nkoppel CommunicationRequest/… of CareTeam/…: verbind deze ruimte\nontkoppel: verbreek de koppeling\nopnieuw: geparkeerd werk van deze ruimte opnieuw\nVoor de laatste drie is niveau {} nodig.",
        "Commands, with !fhir before them (not needed in a direct chat):\nhelp: this text\nstatus: how the bridge and this room are\nwho: who the members are in FHIR\nlink CommunicationRequest/… or CareTeam/…: connect this room\nunlink: end the connection\nretry: parked work of this room again\nThe last three need level {}.";
    BotUnknown: "Dat begrijp ik niet. Zeg !fhir hulp.", "I do not understand that. Say !fhir help.";
    BotLevel: "Daarvoor is in deze ruimte niveau {} nodig.", "That needs level {} in this room.";
    BotNoRight:
        "Daarvoor moet u in FHIR als zorgverlener bij {} horen.",
        "For that FHIR must know you as a professional who belongs to {}.";
    BotLinked: "Deze ruimte is gekoppeld aan {}.", "This room is linked to {}.";
    BotNotLinked: "Deze ruimte is niet gekoppeld.", "This room is not linked.";
    BotOther: "Deze ruimte is al gekoppeld aan {}; ontkoppel haar eerst.", "This room is linked to {} already; unlink it first.";
    BotTaken: "{} heeft een andere ruimte; ontkoppel die daar eerst.", "{} has another room; unlink it there first.";
    BotMissing: "{} is niet in FHIR.", "{} is not in FHIR.";
    BotWhat:
        "Noem wat u koppelt, bijvoorbeeld: !fhir koppel CommunicationRequest/1",
        "Name what you link, for example: !fhir link CommunicationRequest/1";
    BotWrongKind:
        "Een zorgteam hoort bij een space, een gesprek bij een gewone ruimte.",
        "A care team belongs to a space, a conversation to an ordinary room.";
    BotUnlinked:
        "Deze ruimte is niet meer gekoppeld aan {}. Wat er in FHIR bijkomt, wacht tot er weer een ruimte is.",
        "This room is no longer linked to {}. What is added in FHIR waits until there is a room again.";
    BotRetried: "Opnieuw geprobeerd: {}", "Tried again: {}";
    BotNobody: "niet bekend in FHIR", "not known in FHIR";
    BotMore: "… en {} meer", "… and {} more";
    BotEncrypted:
        "Versleutelde berichten kan ik niet lezen. Begin een gesprek zonder versleuteling.",
        "I cannot read encrypted messages. Start a chat without encryption.";
}

// === impl Language ===

impl Language {
    /// The language of a person by `Accept-Language` (RFC 9110, 12.5.4); English where neither is asked for.
    pub fn of_accept(header: &str) -> Self {
        let mut best = (0.0_f32, Self::English);
        for range in header.split(',') {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            let language = match tag.split('-').next() {
                Some("nl") => Self::Dutch,
                Some("en") => Self::English,
                _ => continue,
            };
            // Of equals the first stands.
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }

    /// The language's tag (BCP 47).
    pub fn tag(self) -> &'static str {
        match self {
            Self::Dutch => "nl",
            Self::English => "en",
        }
    }

    /// The word with a value in the place of its `{}`.
    pub fn say_with(self, word: Word, value: impl std::fmt::Display) -> String {
        self.say(word).replacen("{}", &value.to_string(), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_that_weighs_most() {
        for (header, language) in [
            ("nl-NL,nl;q=0.9,en;q=0.8", Language::Dutch),
            ("en-GB,en;q=0.9,nl;q=0.8", Language::English),
            ("de, nl;q=0.5, en;q=0.4", Language::Dutch),
            ("en;q=0.2, nl;q=0.3", Language::Dutch),
            ("de-DE", Language::English),
            ("", Language::English),
            ("nl;q=nonsense", Language::Dutch),
            ("nl;q=0, en;q=0", Language::English),
        ] {
            assert_eq!(Language::of_accept(header), language, "{header}");
        }
    }

    #[test]
    fn both_languages_fill_in_the_same() {
        for word in Word::ALL {
            let [dutch, english] = [Language::Dutch, Language::English].map(|language| language.say(*word));
            assert!(!dutch.is_empty() && !english.is_empty(), "{word:?}");
            assert_eq!(dutch.matches("{}").count(), english.matches("{}").count(), "{word:?}");
        }
        assert_eq!(Language::Dutch.say_with(Word::RetryNumber, 7), "Werk 7 opnieuw proberen");
    }
}
