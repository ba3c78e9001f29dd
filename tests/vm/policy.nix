# A homeserver that is not a member: with a certificate that browsers trust everywhere it would be part of Matrix, here
# it is refused until the operator writes it on the list.
{ lib, ... }:
{
  imports = [ ./common/network.nix ];

  nodes.gateway.systemd.tmpfiles.rules = [
    "d /etc/care-federation-members 0755 root root -"
    "f /etc/care-federation-members/list 0644 root root -"
  ];
  nodes.gateway.networking.hosts."127.0.0.1" = [ "stranger" ];
  nodes.gateway.services.care-federation = {
    # The stranger even has a certificate of the network's CA: it is the list that keeps it out.
    ca = {
      names = [ "stranger" ];
      certificates.stranger.group = "federation-proxy";
    };
    proxy.settings = {
      policy.members_file = "/etc/care-federation-members/list";
      servers.stranger = {
        upstream = "http://stranger-host:8008";
        federation = "stranger:8448";
      };
      egress.targets = {
        "stranger:443" = "127.0.0.1:443";
        "stranger:8448" = "127.0.0.1:8448";
      };
    };
  };

  nodes.stranger-host =
    { nodes, ... }:
    let
      gateway = nodes.gateway.networking.primaryIPAddress;
    in
    {
      services.care-federation.homeserver = {
        enable = true;
        name = "stranger";
        database = "sqlite";
        trial = true;
        listenAddresses = [ "0.0.0.0" ];
        openFirewall = true;
        caCertificate = "/etc/care-federation/ca.pem";
        # It asks the members itself, without the network's egress.
        allowedNetworks = [ "192.168.0.0/16" ];
      };
      networking.hosts.${gateway} = [
        "apotheek"
        "huisarts"
        "vvt"
        "stranger"
      ];
      virtualisation.memorySize = lib.mkOverride 900 1536;
    };
}
