# The lab's network on four machines: a gateway (CA, proxy, Element) and a homeserver for each organisation.
{ lib, programs, ... }:
let
  inherit (lib.importTOML ../../../nix/network.toml) organisations;
  member =
    { nodes, ... }:
    {
      services.care-federation.network = {
        enable = true;
        layout = "gateway";
        interface = "eth1";
        trial = true;
        homeservers.database = lib.mkDefault "sqlite";
        addresses = lib.genAttrs ([ "gateway" ] ++ lib.attrNames organisations) (
          host: nodes.${host}.networking.primaryIPAddress
        );
      };
    };
  homeserver = name: {
    imports = [ member ];
    services.care-federation.network.host = name;
    # Before the default of all tests, after what a test says itself.
    virtualisation.memorySize = lib.mkOverride 900 1536;
  };
in
{
  nodes = lib.mapAttrs (name: _: homeserver name) organisations // {
    gateway = {
      imports = [ member ];
      services.care-federation.network.host = "gateway";
      environment.systemPackages = [ programs.federation-lab-unwrapped ];
    };
  };
}
