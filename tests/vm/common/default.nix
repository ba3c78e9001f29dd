# What all VM tests share: our modules on every machine, small machines, and an end to every test.
{ lib, ... }:
{
  globalTimeout = lib.mkDefault 900;

  defaults =
    { pkgs, ... }:
    {
      imports = [ (import ../../../modules).default ];
      environment.systemPackages = [
        pkgs.curl
        pkgs.jq
        pkgs.openssl
      ];
      virtualisation.memorySize = lib.mkDefault 1024;
      system.stateVersion = "26.05";
    };
}
