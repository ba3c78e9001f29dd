# `apps`: what `nix run` starts.
{ lib }:
packages:
let
  app = package: {
    type = "app";
    program = lib.getExe package;
    meta = { inherit (package.meta) description; };
  };
in
{
  default = app packages.fhir-bridge;
  bridge = app packages.fhir-bridge;
  proxy = app packages.federation-proxy;
  ca = app packages.federation-ca;
  lab = app packages.federation-lab;
}
// lib.optionalAttrs (packages ? demo-vm) {
  demo-vm = {
    type = "app";
    program = "${packages.demo-vm}/bin/run-demo-vm";
    meta.description = "Boots the whole network in a virtual machine";
  };
}
