{
  description = "The host of a care network's CA";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Where care-federation is: a directory, or the address of its repository.
    care-federation.url = "git+file:///etc/nixos/care-federation";
    care-federation.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, care-federation, ... }:
    {
      nixosConfigurations.authority = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          care-federation.nixosModules.default
          ./configuration.nix
        ];
      };
    };
}
