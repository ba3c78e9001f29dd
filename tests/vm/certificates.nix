# The life of certificates: made, renewed under traffic, revoked, expired, of a rogue CA, and enrolled from another host.
{ lib, ... }:
let
  standsFor = description: onReload: {
    inherit description;
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      ExecStart = "/run/current-system/sw/bin/sleep infinity";
      ExecReload = "/run/current-system/sw/bin/${onReload}";
    };
  };
  usesCertificate = standsFor "Stands for a service that has the certificate" "touch /run/uses-certificate-reloaded";
in
{
  imports = [ ./common/network.nix ];

  nodes.gateway = {
    services.care-federation.ca = {
      names = [
        "beside"
        "later"
        "newcomer"
      ];
      certificates.beside.reloadUnits = [ "uses-certificate.service" ];
      est = {
        enable = true;
        openFirewall = true;
      };
    };
    systemd.services.uses-certificate = usesCertificate;
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
        certificates.later = {
          tokenFile = "/etc/secrets/later-token";
          reloadUnits = [ "stubborn.service" ];
        };
        certificates.newcomer = {
          group = "users";
          tokenFile = "/etc/secrets/enrolment-token";
          reloadUnits = [
            "stubborn.service"
            "uses-certificate.service"
          ];
        };
      };
      systemd.services = {
        uses-certificate = usesCertificate;
        stubborn = standsFor "Stands for a service that cannot take a new certificate for a while" "cp /run/allowed /run/stubborn-reloaded";
      };
      networking.hosts.${nodes.gateway.networking.primaryIPAddress} = lib.mkForce [ "ca" ];
    };
}
