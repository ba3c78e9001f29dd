# The Rust package: four programs, their manual pages and completions.
{
  lib,
  stdenv,
  rustPlatform,
  cacert,
  installShellFiles,
  postgresql,
}:
let
  manifest = lib.importTOML ../Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  # Only what cargo reads: an edit of the documents or of a NixOS module rebuilds nothing.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../benches
      ../src
      ./network.toml
      (lib.fileset.fileFilter (file: file.hasExt "rs") ../tests)
      # What the tests of the library read.
      ../fuzz/corpus
      ../tests/examples
    ];
  };

  # The lock file has a checksum for every crate: there is no other hash to keep.
  cargoLock.lockFile = ../Cargo.lock;

  # The tests that federate real Synapses belong to `cargo test` and to the VM tests (checks); here the units of the
  # library and of the programs are tested, which need nothing but a PostgreSQL to start.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];

  nativeBuildInputs = [ installShellFiles ];
  nativeCheckInputs = [ postgresql ];
  # An HTTPS client cannot be made without roots, and the sandbox has none. Nothing is reached with them.
  preCheck = ''
    export SSL_CERT_FILE=${cacert}/etc/ssl/certs/ca-bundle.crt
  '';

  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    for program in federation-ca federation-proxy federation-lab fhir-bridge; do
      $out/bin/$program man man
      for shell in bash fish zsh; do
        $out/bin/$program completions $shell > $program.$shell
        if [ -s $program.$shell ]; then
          installShellCompletion --cmd $program --$shell $program.$shell
        fi
      done
    done
    installManPage man/*
  '';

  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.eupl12;
    mainProgram = "federation-lab";
    platforms = lib.platforms.linux;
  };
}
