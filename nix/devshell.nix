# What one needs to work on the programs, the modules and the book.
{
  mkShell,
  cargo,
  clippy,
  rustc,
  rustfmt,
  rust-analyzer,
  cargo-deny,
  deadnix,
  mdbook,
  nixfmt,
  postgresql,
  matrix-synapse,
  element-web,
}:
mkShell {
  packages = [
    cargo
    clippy
    rustc
    rustfmt
    rust-analyzer
    cargo-deny
    deadnix
    mdbook
    nixfmt
    # The tests start one.
    postgresql
  ];

  # `cargo run -- demo` in this shell downloads nothing.
  SYNAPSE_HOMESERVER = "${matrix-synapse}/bin/synapse_homeserver";
  ELEMENT_WEB = "${element-web}";
}
