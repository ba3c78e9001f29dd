# One organisation's host: its homeserver, the proxy in front of it, its Element Web, and the bridge between FHIR and
# Matrix. Its certificate comes from the network's CA.
{ config, ... }:
let
  # Of this organisation, and of the others in the network: their server names, and where their proxies are.
  name = "vvt";
  partners = {
    apotheek = "203.0.113.11";
    huisarts = "203.0.113.12";
  };
in
{
  services.care-federation = {
    # The key is made here and never leaves this host. The network's operator gives you the fingerprint, and a token:
    # `federation-ca token vvt` on the CA's host.
    ca.client = {
      enable = true;
      server = "https://ca:8449";
      fingerprint = "0000000000000000000000000000000000000000000000000000000000000000";
    };
    ca.certificates.${name}.tokenFile = "/etc/secrets/enrolment-token";

    homeserver = {
      enable = true;
      inherit name;
      egress = "http://127.0.0.1:3128";
      backup.enable = true;
    };

    proxy = {
      enable = true;
      openFirewall = true;
      settings = {
        policy.members = [ name ] ++ builtins.attrNames partners;
        servers.${name} = {
          upstream = "http://127.0.0.1:${toString config.services.care-federation.homeserver.port}";
          federation = "${name}:8448";
          client = "https://${name}:8448";
        };
        egress.targets = builtins.foldl' (
          targets: partner:
          targets
          // {
            "${partner}:443" = "${partners.${partner}}:443";
            "${partner}:8448" = "${partners.${partner}}:8448";
          }
        ) { } (builtins.attrNames partners);
      };
    };

    element.${name}.title = "Thuiszorg";

    # FHIR is at http://127.0.0.1:1234/fhir, for the programs on this host.
    bridge.enable = true;
  };

  # Names that no DNS knows.
  networking.hosts = {
    "203.0.113.10" = [ "ca" ];
    "127.0.0.1" = [ name ];
  };

  # What belongs to this machine; nixos-generate-config writes it for you.
  networking.hostName = name;
  boot.loader.systemd-boot.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  system.stateVersion = "26.05";
}
