# `packages`: the programs, the book, and the demonstration machine.
{ pkgs, self }:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  programs = import ./programs.nix pkgs;
in
programs
// {
  default = programs.care-federation;
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
