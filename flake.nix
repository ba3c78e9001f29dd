# The table of contents: every output is made in nix/, modules/, tests/ or templates/.
{
  description = "A reproducible, federated Matrix network for care organisations, with a FHIR bridge";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      own = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
    in
    {
      overlays.default = import ./nix/overlay.nix;
      nixosModules = import ./modules;
      nixosConfigurations.demo = import ./nix/demo.nix { inherit nixpkgs self; };
      templates = import ./templates;

      packages = forEachSystem (pkgs: import ./nix/packages.nix { inherit pkgs self; });
      apps = forEachSystem (pkgs: import ./nix/apps.nix { inherit lib; } (own pkgs));
      checks = forEachSystem (pkgs: import ./nix/checks.nix { inherit pkgs self; });
      devShells = forEachSystem (pkgs: {
        default = pkgs.callPackage ./nix/devshell.nix { };
      });
      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
