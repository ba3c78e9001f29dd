//! Floor 2: the TLS-terminating reverse proxy of the network, its egress and its federation policy.
