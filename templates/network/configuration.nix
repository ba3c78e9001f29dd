# The whole network on this host: CA, proxy and Element on the host, each homeserver in a container.
{
  services.care-federation.network = {
    enable = true;
    # The organisations: server name, ports, and who has an Element Web.
    declaration = fromTOML (builtins.readFile ./network.toml);
    # Take this away before there are patients: it switches rate limits off.
    trial = true;
  };

  # What belongs to this machine; nixos-generate-config writes it for you.
  networking.hostName = "network";
  boot.loader.systemd-boot.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  system.stateVersion = "26.05";
}
