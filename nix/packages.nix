# `packages`: the programs, the book, and the demonstration machine.
{ pkgs, self }:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  programs = import ./programs.nix pkgs;
  tests = self.checks.${system};
  tested = pkgs.lib.extendDerivation true {
    inherit tests;
    passthru.tests = tests;
  } programs.care-federation;
in
programs
// {
  # What shows that it works: `nix build .#care-federation.tests.federation`.
  care-federation = tested;
  default = tested;
  docs = pkgs.callPackage ./docs.nix { };
  options-doc = pkgs.writeText "nix-options.md" (
    import ./options.nix {
      inherit pkgs;
      inherit (pkgs) lib;
    }
  );
}
// pkgs.lib.optionalAttrs (system == "x86_64-linux") {
  demo-vm = self.nixosConfigurations.demo.config.system.build.vm;
}
