//! `init`, `issue`, `renew`, `revoke`, `crl`.

use std::path::{Path, PathBuf};

use clap::Args;
use time::Duration;

use crate::{
    pki::{Authority, AuthorityProfile, Creation, Outcome, Reason, Renewal, readable},
    service::{
        failure::{Failure, Status, explain},
        network::Network,
    },
};

use super::{Host, group, list, say};

#[derive(Debug, Args)]
pub(super) struct Init {
    /// A DNS name that the authority may certify, with all names below it; may be given several times
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// The declaration of the network, whose server names are taken
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// Where the revocation list will be found, for certificates to say: http://…
    #[arg(long, value_name = "URL")]
    crl_url: Option<String>,
    /// Give the CA certificate five more years, with the same key
    #[arg(long)]
    renew: bool,
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    #[command(flatten)]
    host: Host,
    /// How many days the certificate is valid
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i64).range(1..=398))]
    days: i64,
    /// The group that may read the key, by name or number
    #[arg(long, value_parser = group)]
    group: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct Renew {
    /// The hosts whose certificates to look at [default: all that are here]
    names: Vec<String>,
    /// Renew also those that are not due
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The host, or the serial number of one certificate
    #[arg(value_name = "NAME|SERIAL")]
    target: String,
    /// Why
    #[arg(long, value_enum, default_value_t)]
    reason: Reason,
}

// === impl Init ===

impl Init {
    pub(super) fn run(self, directory: &Path) -> Result<(), Failure> {
        let exists = Authority::certificate_path(directory).exists();
        if self.renew {
            if !exists {
                return Err(Authority::open(directory).err().unwrap_or_else(|| super::usage("there is no authority")));
            }
            Authority::open(directory)?.renew_authority()?;
        }
        let mut profile = AuthorityProfile { names: self.names, crl_url: self.crl_url };
        if let Some(path) = &self.network {
            profile.names.extend(Network::read(path)?.names().map(str::to_owned));
        }
        if profile.names.is_empty() && self.renew {
            profile.names = Authority::open(directory)?.permitted().roots().to_vec();
        }
        let (authority, creation) = Authority::open_or_create(directory, &profile)?;
        let place = directory.display();
        let until = readable(authority.certificate().not_after());
        match creation {
            Creation::Created => say(format_args!("Made a certificate authority in {place}, valid until {until}.\n"))?,
            Creation::Extended => say(format_args!(
                "Added names to the authority in {place}, with the same key. Hand the new ca.pem to every server.\n"
            ))?,
            Creation::Kept | Creation::Renewed if self.renew => {
                say(format_args!(
                    "The CA certificate in {place} is now valid until {until}. Hand it to every server.\n"
                ))?;
            }
            Creation::Kept | Creation::Renewed => {
                say(format_args!(
                    "There is an authority in {place} already, valid until {until}; it stays as it is.\n"
                ))?;
            }
        }
        say(format_args!("It may certify {} and the names below them.\n", authority.permitted()))?;
        say(format_args!("SHA-256 fingerprint: {}\n", authority.certificate().fingerprint()))?;
        Ok(())
    }
}

// === impl Issue ===

impl Issue {
    pub(super) fn run(self, authority: &Authority) -> Result<(), Failure> {
        let mut leaf = self.host.leaf().with_group(self.group);
        leaf.lifetime = Duration::days(self.days);
        let outcome = authority.issue(&leaf)?;
        let certificate = outcome.certificate();
        let (names, until) = (list(certificate.names()), readable(certificate.not_after()));
        match &outcome {
            Outcome::Issued(_) => say(format_args!("Issued a certificate for {names}, valid until {until}:\n"))?,
            Outcome::StillValid(_) => say(format_args!(
                "The certificate for {names} is valid until {until} and not due before {}; nothing to do:\n",
                readable(certificate.due())
            ))?,
        }
        let pairs = Authority::pairs(authority.directory());
        let name = leaf.name.to_ascii_lowercase();
        say(format_args!("  {}\n", pairs.certificate_path(&name).display()))?;
        say(format_args!("  {}\n", pairs.key_path(&name).display()))?;
        Ok(())
    }
}

// === impl Renew ===

impl Renew {
    pub(super) fn run(self, authority: &Authority) -> Result<(), Failure> {
        let outcomes = authority.renew(&self.names, self.force)?;
        if outcomes.is_empty() {
            say(format_args!("There are no certificates here yet.\n"))?;
        }
        let mut failed = Vec::new();
        for (name, outcome) in outcomes {
            match outcome {
                Ok(Renewal::Renewed(new)) => {
                    say(format_args!("{name}: renewed, valid until {}\n", readable(new.not_after())))?
                }
                Ok(Renewal::NotDue(old)) => say(format_args!("{name}: not due before {}\n", readable(old.due())))?,
                Ok(Renewal::Revoked(_)) => {
                    say(format_args!("{name}: revoked, not renewed (`federation-ca issue {name}` makes a new one)\n"))?;
                }
                Err(failure) => failed.push((name, failure)),
            }
        }
        match failed.pop() {
            None => Ok(()),
            Some((_, only)) if failed.is_empty() => Err(only),
            Some(last) => {
                failed.push(last);
                let names: Vec<_> = failed.iter().map(|(name, _)| name.as_str()).collect();
                let summary = Failure::new(Status::Failed, format!("could not renew {}", names.join(", ")));
                for (name, failure) in failed {
                    eprintln!("{}", explain(&name, &failure.into()));
                }
                Err(summary)
            }
        }
    }
}

// === impl Revoke ===

impl Revoke {
    pub(super) fn run(self, authority: &Authority) -> Result<(), Failure> {
        let revoked = match authority.revoke(&self.target, self.reason) {
            Err(failure) if failure.status() == Status::NoInput && authority.withdraw_tokens(&self.target)? => {
                eprintln!("{failure}; its unused tokens have ended.");
                return Ok(());
            }
            outcome => outcome?,
        };
        if revoked.is_empty() {
            say(format_args!("Nothing to do: what was issued to {} is revoked or expired already.\n", self.target))?;
        }
        for issued in &revoked {
            say(format_args!("Revoked {} ({}).\n", issued.serial, list(&issued.names)))?;
        }
        say(format_args!("The revocation list is {}.\n", Authority::crl_path(authority.directory()).display()))?;
        Ok(())
    }
}

/// `crl`.
pub(super) fn sign_crl(authority: &Authority) -> Result<(), Failure> {
    let until = authority.sign_crl()?;
    let path = Authority::crl_path(authority.directory());
    say(format_args!("Signed {}, which counts until {}.\n", path.display(), readable(until)))?;
    Ok(())
}
