# `nixosModules`: each of them for itself, and `default` with all of them.
let
  modules = {
    federation-ca = ./federation-ca;
    federation-proxy = ./federation-proxy;
    homeserver = ./homeserver;
    element = ./element.nix;
    fhir-bridge = ./fhir-bridge;
    network = ./network;
  };
in
modules // { default.imports = builtins.attrValues modules; }
