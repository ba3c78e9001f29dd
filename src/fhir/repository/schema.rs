//! The tables of the repository.

use crate::service::database::Schema;

/// The tables of the repository.
pub const SCHEMA: Schema = Schema { name: "fhir", steps: STEPS };

/// One step for each version. A step that was released is never changed.
pub(super) const STEPS: &[&str] = &[
    r"
    -- Every version of every resource, in the order of writing. Nothing here is ever changed or deleted.
    CREATE TABLE version (
        seq INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        method TEXT NOT NULL,
        content TEXT NOT NULL,
        UNIQUE (kind, id, version)
    ) STRICT;
    CREATE INDEX version_kind ON version (kind, seq);
    CREATE INDEX version_updated ON version (updated);

    -- The newest version of each resource. `rid` never changes.
    CREATE TABLE resource (
        rid INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES version (seq),
        updated INTEGER NOT NULL,
        UNIQUE (kind, id)
    ) STRICT;
    CREATE INDEX resource_updated ON resource (kind, updated);

    -- What the newest versions can be found by. `parameter` is `Type.name`.
    CREATE TABLE token (
        parameter TEXT NOT NULL, code TEXT NOT NULL, system TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, code, system, rid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX token_rid ON token (rid, parameter);
    CREATE TABLE reference (
        parameter TEXT NOT NULL, target TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, target, rid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX reference_rid ON reference (rid, parameter);
    CREATE TABLE text (
        parameter TEXT NOT NULL, folded TEXT NOT NULL, exact TEXT NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, folded, exact, rid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX text_rid ON text (rid, parameter);
    CREATE TABLE moment (
        parameter TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL, rid INTEGER NOT NULL,
        PRIMARY KEY (parameter, low, high, rid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX moment_rid ON moment (rid, parameter);

    -- Who is told of changes. A call has no content, so one number says all that is owed: changes up to `wanted`
    -- were found to match, and the endpoint knows of those up to `delivered`.
    CREATE TABLE hook (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        wanted INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        due INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX hook_kind ON hook (kind);
",
    r#"
    -- Patients can be found by `deceased`, also those that were written before. In stored JSON the quotes of a text are
    -- escaped, so that only members match.
    INSERT INTO token (parameter, code, system, rid)
        SELECT 'Patient.deceased', CASE WHEN v.content LIKE '%"deceasedBoolean":true%'
            OR v.content LIKE '%"deceasedDateTime":"%' THEN 'true' ELSE 'false' END, '', r.rid
        FROM resource r JOIN version v ON v.seq = r.seq WHERE r.kind = 'Patient';
"#,
];
