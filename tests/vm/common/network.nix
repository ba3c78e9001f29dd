# The lab's network on four machines: a gateway (CA, proxy, Element) and a homeserver for each organisation. The gateway
# also has federation-lab, and is told where the homeservers are. The machine of vvt is called vvt-host, for the name vvt
# leads to the gateway.
{ lib, programs, ... }:
let
  network = lib.importTOML ../../../nix/network.toml;
  inherit (network) organisations;
  member =
    { nodes, ... }:
    {
      services.care-federation.network = {
        enable = true;
        layout = "gateway";
        interface = "eth1";
        trial = true;
        homeservers.database = lib.mkDefault "sqlite";
        addresses = {
          gateway = nodes.gateway.networking.primaryIPAddress;
        }
        // lib.mapAttrs (name: _: nodes."${name}-host".networking.primaryIPAddress) organisations;
      };
    };
  homeserver = name: {
    imports = [ member ];
    services.care-federation.network.host = name;
    # Before the default of all tests, after what a test says itself.
    virtualisation.memorySize = lib.mkOverride 900 1536;
  };
  url = host: port: "http://${host}:${toString port}";
in
{
  nodes =
    lib.mapAttrs' (name: _: lib.nameValuePair "${name}-host" (homeserver name)) organisations
    // {
      gateway =
        { nodes, pkgs, ... }:
        {
          imports = [ member ];
          services.care-federation.network.host = "gateway";
          environment.systemPackages = [ programs.federation-lab-unwrapped ];
          environment.etc."care-federation-test.json".text = builtins.toJSON {
            egress = "${nodes.gateway.networking.primaryIPAddress}:${toString network.proxy.egress_port}";
            homeservers = lib.mapAttrs (
              name: organisation:
              url nodes."${name}-host".networking.primaryIPAddress organisation.homeserver_port
            ) organisations;
            # To play a homeserver that is not in the network.
            synapse = "${pkgs.matrix-synapse}/bin/synapse_homeserver";
          };
        };
    };
}
