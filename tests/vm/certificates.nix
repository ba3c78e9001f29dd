# The life of certificates: made, renewed under traffic, revoked, expired, of a rogue CA, and enrolled from another host.
{ lib, ... }:
{
  imports = [ ./common/network.nix ];

  nodes.gateway.services.care-federation.ca = {
    names = [
      "later"
      "newcomer"
    ];
    est = {
      enable = true;
      openFirewall = true;
    };
  };

  # A host that joins the network: it has nothing yet but the address of the CA and its certificate.
  nodes.newcomer =
    { nodes, ... }:
    {
      services.care-federation.ca = {
        client = {
          enable = true;
          server = "https://ca:8449";
          caFile = "/etc/care-federation/ca.pem";
        };
        # Its token comes later than that of the other.
        certificates.later.tokenFile = "/etc/secrets/later-token";
        certificates.newcomer = {
          group = "users";
          tokenFile = "/etc/secrets/enrolment-token";
          reloadUnits = [ "uses-certificate.service" ];
        };
      };
      systemd.services.uses-certificate = {
        description = "Stands for a service that has the certificate";
        wantedBy = [ "multi-user.target" ];
        serviceConfig = {
          ExecStart = "/run/current-system/sw/bin/sleep infinity";
          ExecReload = "/run/current-system/sw/bin/touch /run/uses-certificate-reloaded";
        };
      };
      networking.hosts.${nodes.gateway.networking.primaryIPAddress} = lib.mkForce [ "ca" ];
    };
}
