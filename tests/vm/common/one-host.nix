# The machine with a whole network on it, as the template `network` has it.
{ programs, ... }:
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
    };
  };
}
