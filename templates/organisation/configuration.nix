# One organisation's host: its homeserver, the proxy in front of it, and its Element Web. Its certificate comes from the
# network's CA.
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
    homeserver = {
      enable = true;
      inherit name;
      egress = "http://127.0.0.1:3128";
      caCertificate = "/etc/care-federation/ca.pem";
      backup.enable = true;
    };

    proxy = {
      enable = true;
      openFirewall = true;
      settings = {
        policy.members = [ name ] ++ builtins.attrNames partners;
        servers.${name} = {
          upstream = "http://127.0.0.1:${toString config.services.care-federation.homeserver.port}";
          certificate = "/etc/care-federation/cert.pem";
          key = "/etc/care-federation/key.pem";
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
