# The host of the network's CA. Nothing runs here but the CA and its enrolment server (EST), where the organisations' hosts
# get their certificates; their keys never come here.
{
  services.care-federation.ca = {
    enable = true;
    # The organisations of the network. The CA can certify no other names.
    names = [
      "apotheek"
      "huisarts"
      "vvt"
    ];
    est = {
      enable = true;
      openFirewall = true;
    };
  };

  # What belongs to this machine; nixos-generate-config writes it for you.
  networking.hostName = "ca";
  boot.loader.systemd-boot.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  system.stateVersion = "26.05";
}
