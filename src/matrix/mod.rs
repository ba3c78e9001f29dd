//! Floor 2: the Matrix application-service API and the homeserver client.
