//! Floor 2: FHIR R4 resources, REST client, embedded repository and server, subscriptions.
