//! `show`.

use clap::Args;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    pki::{Authority, Issued, Record, readable},
    service::failure::{Failure, Status},
};

use super::{list, say};

/// Days before its end at which the CA certificate should be renewed: no certificate outlives its CA.
const AUTHORITY_SOON: i64 = 180;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Print JSON, with everything that was ever issued
    #[arg(long)]
    json: bool,
    /// Show also what has expired
    #[arg(long)]
    all: bool,
}

// === impl Show ===

impl Show {
    pub(super) fn run(self, authority: &Authority) -> Result<(), Failure> {
        let record = authority.record()?;
        if self.json {
            let text = serde_json::to_string_pretty(&as_json(authority, &record)?)
                .map_err(|error| Failure::new(Status::Failed, "cannot write JSON").because(error))?;
            say(format_args!("{text}\n"))?;
            return Ok(());
        }
        let (certificate, now) = (authority.certificate(), authority.now());
        say(format_args!("Authority    {}\n", certificate.common_name().unwrap_or("(no name)")))?;
        say(format_args!("Directory    {}\n", authority.directory().display()))?;
        say(format_args!("May certify  {} and the names below them\n", authority.permitted()))?;
        say(format_args!("Valid until  {}\n", readable(certificate.not_after())))?;
        say(format_args!("Fingerprint  {}\n", certificate.fingerprint()))?;
        if let Some((_, until)) = authority.crl_validity() {
            say(format_args!("Revocations  list {} counts until {}\n", record.crl_number, readable(until)))?;
        }
        if (certificate.not_after() - now).whole_days() < AUTHORITY_SOON {
            say(format_args!("The CA certificate ends soon: renew it with `federation-ca init --renew`.\n"))?;
        }
        self.print_certificates(&record, now)?;
        let grants = authority.grants()?;
        if !grants.is_empty() {
            say(format_args!("\nTokens that were not used yet\n"))?;
        }
        for grant in grants {
            say(format_args!("  {}, until {}\n", list(&grant.names), readable(grant.expires)))?;
        }
        Ok(())
    }

    fn print_certificates(&self, record: &Record, now: OffsetDateTime) -> Result<(), Failure> {
        let shown: Vec<_> = record.certificates.iter().filter(|issued| self.all || now <= issued.not_after).collect();
        let width = shown.iter().map(|issued| issued.name.len()).max().unwrap_or(0).max(4);
        say(format_args!("\n{:width$}  {:8}  {:20}  {:32}  Names\n", "Host", "State", "Until", "Serial number"))?;
        for issued in &shown {
            let (state, until) = (state(issued, now), readable(issued.not_after));
            say(format_args!(
                "{:width$}  {state:8}  {until:20}  {:32}  {}\n",
                issued.name,
                issued.serial,
                list(&issued.names)
            ))?;
        }
        let hidden = record.certificates.len() - shown.len();
        if hidden > 0 {
            say(format_args!("({hidden} expired; `--all` shows them)\n"))?;
        }
        Ok(())
    }
}

fn state(issued: &Issued, now: OffsetDateTime) -> &'static str {
    if issued.revoked.is_some() {
        "revoked"
    } else if now > issued.not_after {
        "expired"
    } else if now >= issued.due() {
        "due"
    } else {
        "valid"
    }
}

fn as_json(authority: &Authority, record: &Record) -> Result<Value, Failure> {
    let (certificate, now) = (authority.certificate(), authority.now());
    let certificates: Vec<Value> = record
        .certificates
        .iter()
        .map(|issued| {
            let mut value = serde_json::to_value(issued).map_err(cannot_write)?;
            value["state"] = state(issued, now).into();
            Ok(value)
        })
        .collect::<Result<_, Failure>>()?;
    let tokens: Vec<Value> = authority
        .grants()?
        .iter()
        .map(|grant| Ok(json!({ "names": grant.names, "expires": timestamp(grant.expires)? })))
        .collect::<Result<_, Failure>>()?;
    let crl = match authority.crl_validity() {
        Some((from, until)) => json!({
            "number": record.crl_number,
            "url": record.crl_url,
            "this_update": timestamp(from)?,
            "next_update": timestamp(until)?,
        }),
        None => Value::Null,
    };
    Ok(json!({
        "authority": {
            "directory": authority.directory(),
            "name": certificate.common_name(),
            "serial": certificate.serial(),
            "fingerprint": certificate.fingerprint(),
            "permitted": authority.permitted().roots(),
            "not_before": timestamp(certificate.not_before())?,
            "not_after": timestamp(certificate.not_after())?,
        },
        "crl": crl,
        "certificates": certificates,
        "tokens": tokens,
    }))
}

fn timestamp(time: OffsetDateTime) -> Result<String, Failure> {
    time.format(&Rfc3339).map_err(|error| Failure::new(Status::Failed, "cannot write a time").because(error))
}

fn cannot_write(error: serde_json::Error) -> Failure {
    Failure::new(Status::Failed, "cannot write JSON").because(error)
}
