# The machine of the test single-host, and what it puts into its containers: each container's configuration, as the
# network module makes it, on a machine of its own, with the container's address and the files that are bound into it.
# This shows on container hosts what single-host shows on a machine that can nest containers.
{ config, lib, ... }:
let
  host = config.nodes.machine;
  inherit (lib.importTOML ../../nix/network.toml) organisations;
  container = name: {
    imports = [ host.services.care-federation.network.containerModules.${name} ];
    networking.interfaces.eth1.ipv4.addresses = lib.mkForce [
      {
        address = lib.removeSuffix "/24" host.containers.${name}.localAddress;
        prefixLength = 24;
      }
    ];
    virtualisation.memorySize = lib.mkOverride 900 1536;
  };
in
{
  imports = [ ./common/one-host.nix ];
  nodes =
    lib.mapAttrs' (name: _: lib.nameValuePair "${name}-host" (container name)) organisations
    // {
      machine =
        { config, ... }:
        {
          # The containers' bridge is the network card to the other machines.
          networking.bridges = lib.mkForce { };
          virtualisation.vlans = [ ];
          virtualisation.interfaces.care0.vlan = 1;
          containers = lib.mapAttrs (_: _: { autoStart = lib.mkForce false; }) organisations;
          environment.etc =
            lib.mapAttrs' (
              name: _: lib.nameValuePair "nixos-containers/${name}.conf" { enable = lib.mkForce false; }
            ) organisations
            // {
              "care-federation-bound.json".text = builtins.toJSON (
                lib.mapAttrs (
                  _: container: lib.mapAttrs (_: mount: mount.hostPath) container.bindMounts
                ) config.containers
              );
            };
        };
    };
  testScript = lib.concatMapStrings builtins.readFile [
    ./common/prelude.py
    ./common/one-host.py
    ./one-host.py
  ];
}
