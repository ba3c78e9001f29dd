//! Floor 4: the whole network on one machine, its scenario and its measurements.
