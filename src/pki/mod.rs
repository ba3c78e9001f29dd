//! Floor 1: keys, certificates, renewal and enrolment. Knows nothing of Matrix.
