//! The arithmetic of the measurements in `benches/`, which have no test harness of their own.

#![expect(unreachable_pub, reason = "the module belongs to a program")]

#[path = "../benches/common/statistics.rs"]
mod statistics;

use statistics::{Spread, quantile};

#[test]
fn a_spread_is_the_middle_and_the_ends() {
    assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
    assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
    assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, least: 7.0, most: 7.0 }));
    assert_eq!(Spread::of([]), None);
    assert_eq!(Spread::of([1.0, 2.0]).map(|spread| spread.cell(1)).as_deref(), Some("**1.5** (1.0–2.0)"));
}

#[test]
fn a_quantile_leaves_its_share_below() {
    let hundred: Vec<u64> = (1..=100).collect();
    assert_eq!(quantile(&hundred, 0.5), Some(50));
    assert_eq!(quantile(&hundred, 0.99), Some(99));
    assert_eq!(quantile(&hundred, 1.0), Some(100));
    assert_eq!(quantile(&[5], 0.0), Some(5));
    assert_eq!(quantile(&[], 0.5), None);
}
