# `nix run .#demo-vm`: the whole network in a virtual machine, whose ports a browser on the host reaches.
{ nixpkgs, self }:
let
  inherit (nixpkgs.lib.importTOML ./network.toml) proxy organisations;
  clientPorts = nixpkgs.lib.concatMap (
    organisation: nixpkgs.lib.optional (organisation ? client_port) organisation.client_port
  ) (nixpkgs.lib.attrValues organisations);
  forwarded = [
    proxy.client_port
    proxy.federation_port
  ]
  ++ clientPorts;
  demo =
    { lib, ... }:
    {
      services.care-federation.network = {
        enable = true;
        trial = true;
        homeservers.database = "sqlite";
      };
      # The host's browser comes from outside the machine.
      services.care-federation.proxy.settings.listen.plain = lib.mkForce [
        "[::]:${toString proxy.client_port}"
      ];
      networking.firewall.allowedTCPPorts = [ proxy.client_port ];

      networking.hostName = "demo";
      users.users.root.initialPassword = "demo";
      services.getty.autologinUser = "root";
      users.motd = ''
        A federation of care organisations runs here. In a browser on your own machine:
          http://localhost:${toString (nixpkgs.lib.head clientPorts)}   Element of the first organisation that has one
        In this machine:
          curl http://127.0.0.1:1234/fhir/metadata   the FHIR bridge of vvt
          federation-ca --dir /var/lib/federation-ca show
        The administrators' passwords:
          nixos-container run vvt -- cat /var/lib/care-homeserver-admin/password
      '';

      virtualisation.vmVariant.virtualisation = {
        memorySize = 4096;
        cores = 2;
        diskSize = 8192;
        graphics = false;
        forwardPorts = map (port: {
          from = "host";
          host = {
            inherit port;
            address = "127.0.0.1";
          };
          guest = { inherit port; };
        }) forwarded;
      };

      # The virtual machine brings its own disk and boot loader.
      boot.loader.grub.enable = lib.mkDefault false;
      fileSystems."/" = lib.mkDefault {
        device = "none";
        fsType = "tmpfs";
      };
      system.stateVersion = "26.05";
    };
in
nixpkgs.lib.nixosSystem {
  system = "x86_64-linux";
  modules = [
    self.nixosModules.default
    demo
  ];
}
