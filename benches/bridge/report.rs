//! The tables of the book.

use std::{fmt::Write as _, fs};

use anyhow::{Context, Result};

use crate::{machine::Machine, statistics::Spread};

/// The page that the book includes.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/measurements/bridge.md");

/// The tables so far.
pub struct Page(String);

// === impl Page ===

impl Page {
    /// With the machine alone.
    pub fn new(machine: &Machine, rounds: u32) -> Self {
        let date = time::OffsetDateTime::now_utc().date().to_string();
        let build = if cfg!(debug_assertions) { " **An unoptimised build: compare nothing.**" } else { "" };
        Self(format!(
            "{} {rounds} rounds. A cell is the median over the rounds, with the least and the most.{build}\n",
            machine.describe(&date)
        ))
    }

    /// A heading with its table.
    pub fn table(&mut self, title: &str, heads: &[&str], rows: &[Vec<String>]) {
        let rule = vec!["---"; heads.len()].join("|");
        let _ = write!(self.0, "\n### {title}\n\n| {} |\n|{rule}|\n", heads.join(" | "));
        for row in rows {
            let _ = writeln!(self.0, "| {} |", row.join(" | "));
        }
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Writes the book's page.
    pub fn write(&self) -> Result<()> {
        let mark = "<!-- Written by `cargo bench --bench bridge -- --docs`; do not edit. -->";
        fs::write(PAGE, format!("{mark}\n\n{}", self.0)).with_context(|| format!("cannot write {PAGE}"))
    }
}

/// A cell over the rounds.
pub fn cell(numbers: impl IntoIterator<Item = f64>, digits: usize) -> String {
    Spread::of(numbers).map_or_else(|| "–".to_owned(), |spread| spread.cell(digits))
}
