# `nixosModules`: each of them for itself, and `default` with all of them.
let
  modules = {
    federation-ca = ./federation-ca.nix;
    federation-proxy = ./federation-proxy.nix;
    homeserver = ./homeserver;
    element = ./element.nix;
    fhir-bridge = ./fhir-bridge;
    network = ./network.nix;
  };
in
modules // { default.imports = builtins.attrValues modules; }
