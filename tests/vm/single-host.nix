# Needs a full NixOS build: a machine with containers in it, which nixtest cannot nest.
# The whole network on one machine, as the template `network` has it.
{ programs, pkgs, ... }:
{
  nodes.machine = {
    services.care-federation.network = {
      enable = true;
      trial = true;
      homeservers.database = "sqlite";
    };
    environment.systemPackages = [ programs.federation-lab-unwrapped ];
    virtualisation = {
      memorySize = 4096;
      cores = 2;
      diskSize = 8192;
      # The containers' system is part of the machine's own.
      additionalPaths = [ pkgs.matrix-synapse ];
    };
  };
}
