# Needs a full NixOS build: a machine with containers in it, which nixtest cannot nest.
# The whole network on one machine. The test one-host has the same machine with its containers beside it.
{ lib, pkgs, ... }:
{
  imports = [ ./common/one-host.nix ];
  # The containers' system is part of the machine's own.
  nodes.machine.virtualisation.additionalPaths = [ pkgs.matrix-synapse ];
  testScript = lib.concatMapStrings builtins.readFile [
    ./common/prelude.py
    ./common/one-host.py
    ./single-host.py
  ];
}
