# Organisations that trust each other less: a host each with all of it, and the network's CA on a host of its own. The
# hosts are made from the templates as their readers are told to write them, with the machines' addresses.
{ lib, ... }:
let
  # The driver gives machines their addresses in the order of their names.
  addresses = {
    ca = "192.168.1.1";
    huisarts = "192.168.1.2";
    vvt = "192.168.1.3";
  };
  template = builtins.readFile ../../templates/organisation/configuration.nix;
  organisation = name: partner: {
    imports = [
      (builtins.toFile "${name}.nix" (
        lib.replaceStrings
          [
            ''name = "vvt";''
            ''huisarts = "203.0.113.12";''
            ''"203.0.113.10"''
          ]
          [
            ''name = "${name}";''
            ''${partner} = "${addresses.${partner}}";''
            ''"${addresses.ca}"''
          ]
          template
      ))
    ];
    # A CA that is not made yet has no fingerprint.
    services.care-federation.ca.client = {
      fingerprint = lib.mkForce null;
      caFile = "/etc/care-federation/ca.pem";
    };
    virtualisation.memorySize = lib.mkOverride 900 2048;
  };
in
{
  nodes = {
    ca.imports = [ ../../templates/authority/configuration.nix ];
    huisarts = organisation "huisarts" "vvt";
    vvt = organisation "vvt" "huisarts";
  };
}
