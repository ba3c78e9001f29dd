# How little each unit may do, what can be reached from outside, and where secrets are not.
{
  imports = [ ./common/network.nix ];
  nodes.gateway.services.care-federation.ca.est.enable = true;
  nodes.vvt-host =
    { pkgs, ... }:
    {
      services.care-federation.homeserver.backup.enable = true;
      environment.systemPackages = [ pkgs.sqlite ];
    };
}
