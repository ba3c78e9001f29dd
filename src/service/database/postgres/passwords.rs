//! Passwords from files: the settings' own, or libpq's password file (PostgreSQL documentation, 34.16).

use std::{
    env,
    path::{Path, PathBuf},
};

use tokio_postgres::{Config, config::Host};

use super::Settings;
use crate::service::{failure::Failure, secrets::Secret};

/// Where the password comes from. It is read anew for each connection, so it may change while the program runs.
#[derive(Clone, Debug)]
pub(super) enum Passwords {
    /// None is needed: the server knows the user of the socket, or the certificate.
    None,
    /// A file with the password alone.
    File(PathBuf),
    /// A file of lines `host:port:database:user:password`.
    Lines(PathBuf),
}

// === impl Passwords ===

impl Passwords {
    pub(super) fn of(settings: &Settings) -> Self {
        match (&settings.password_file, env::var_os("PGPASSFILE")) {
            (Some(path), _) => Self::File(path.clone()),
            (None, Some(path)) if !path.is_empty() => Self::Lines(path.into()),
            (None, _) => Self::None,
        }
    }

    /// The password for a connection, if there is one.
    pub(super) fn read(&self, config: &Config) -> Result<Option<Secret>, Failure> {
        match self {
            Self::None => Ok(None),
            Self::File(path) => Secret::read(path).map(Some),
            Self::Lines(path) => Ok(find(Secret::read(path)?.expose(), config)),
        }
    }
}

fn find(lines: &str, config: &Config) -> Option<Secret> {
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    let hosts: Vec<String> = config.get_hosts().iter().flat_map(names).collect();
    lines.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [of_host, of_port, of_database, of_user, password] = fields.as_slice() else { return None };
        let fits = |field: &str, value: &str| field == "*" || field == value;
        let is_it = (of_host == "*" || hosts.contains(of_host))
            && fits(of_port, &port)
            && fits(of_database, database)
            && fits(of_user, user);
        is_it.then(|| Secret::new(password.as_str()))
    })
}

/// What a host may be called in the file: a socket is `localhost` too.
fn names(host: &Host) -> Vec<String> {
    match host {
        Host::Tcp(name) => vec![name.clone()],
        Host::Unix(path) => vec![Path::display(path).to_string(), "localhost".to_owned()],
    }
}

/// The fields of a line; a backslash takes the colon or backslash after it as it is.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' => fields.push(String::new()),
            other => {
                let letter = if other == '\\' { letters.next().unwrap_or('\\') } else { other };
                if let Some(last) = fields.last_mut() {
                    last.push(letter);
                }
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let lines = "# of the test\nother:5432:*:*:no\n*:5433:*:*:no\ndb:*:bridge:anna:a\\:b\\\\c\n*:*:*:*:last\n";
        let found = |url: &str| find(lines, &url.parse().unwrap()).unwrap().expose().to_owned();
        assert_eq!(found("postgres://anna@db/bridge"), "a:b\\c");
        assert_eq!(found("postgres://bert@db/bridge"), "last");
        assert_eq!(find("localhost:*:*:*:x", &"postgres://a@/b?host=/run/x".parse().unwrap()).unwrap().expose(), "x");
        assert!(find("db:*:*:bert:x", &"postgres://anna@db/bridge".parse().unwrap()).is_none());
    }
}
