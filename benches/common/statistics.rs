//! Numbers over repeated rounds. Tested in `tests/measurements.rs`.

use serde::Serialize;

/// The middle of some numbers and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

// === impl Spread ===

impl Spread {
    /// Of at least one number.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let (least, most) = (*numbers.first()?, *numbers.last()?);
        let (low, high) = (numbers.get((numbers.len() - 1) / 2)?, numbers.get(numbers.len() / 2)?);
        Some(Self { median: (low + high) / 2.0, least, most })
    }

    /// The cell of a table.
    pub fn cell(&self, digits: usize) -> String {
        let Self { median, least, most } = self;
        format!("**{median:.digits$}** ({least:.digits$}–{most:.digits$})")
    }
}

/// The value below which the share `quantile` (0 to 1) of sorted numbers lies.
pub fn quantile(sorted: &[u64], quantile: f64) -> Option<u64> {
    let place = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(place.clamp(1, sorted.len().max(1)) - 1).copied()
}
