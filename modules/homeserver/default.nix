# One organisation's homeserver: nixpkgs' own services.matrix-synapse, set for a closed federation.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.care-federation.homeserver;
  synapse = config.services.matrix-synapse;
  secrets = import ../lib/secrets.nix { inherit lib; };
  caUnit = lib.optional (config.services.care-federation.ca.enable or false) "federation-ca.service";
  inherit (import ../lib/addresses.nix { inherit lib; }) bracketed isWildcard;
in
{
  imports = [
    ../lib/listeners.nix
    ./secrets.nix
    ./database.nix
    ./workers.nix
    ./admin.nix
    ./backup.nix
  ];

  options.services.care-federation.homeserver = {
    enable = lib.mkEnableOption "the Synapse homeserver of one organisation";

    name = lib.mkOption {
      type = lib.types.strMatching "[a-z0-9]([a-z0-9.-]*[a-z0-9])?";
      example = "vvt";
      description = ''
        The server name: the part of its Matrix ids after the colon, and the name in its certificate.
        It cannot be changed once there are users.
      '';
    };

    listenAddresses = lib.mkOption {
      type = lib.types.nonEmptyListOf lib.types.str;
      default = [ "127.0.0.1" ];
      example = [ "10.0.0.3" ];
      description = ''
        The addresses on which the homeserver takes plain HTTP from the proxy. Traffic between the two is not
        encrypted: keep them on one machine or on a network that nobody else is on.
      '';
    };

    port = lib.mkOption {
      type = lib.types.port;
      default = 8008;
      example = 8038;
      description = "The port on which the homeserver takes plain HTTP from the proxy.";
    };

    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = "Whether to open {option}`port` in the firewall, for a proxy on another machine.";
    };

    baseUrl = lib.mkOption {
      type = lib.types.str;
      default = "https://${cfg.name}:8448/";
      defaultText = lib.literalExpression ''"https://''${name}:8448/"'';
      example = "https://matrix.vvt.example/";
      description = "Where clients reach the homeserver: the address of the proxy.";
    };

    caCertificate = lib.mkOption {
      type = lib.types.path;
      default = "/var/lib/federation-ca/ca.pem";
      example = "/etc/care-federation/ca.pem";
      description = ''
        The certificate of the network's CA (PEM). It is the only root that the homeserver trusts for federation;
        certificates are always verified.
      '';
    };

    egress = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "http://.*");
      default = null;
      example = "http://127.0.0.1:3128";
      description = ''
        The egress listener of the federation proxy. All of the homeserver's calls to other servers go there, and it
        lets through nothing but the federation ports of the network's members. Without it the homeserver connects to
        the others itself.
      '';
    };

    allowedNetworks = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "10.0.0.0/24" ];
      description = ''
        Private address ranges in which other members may be. Synapse refuses private addresses otherwise, as a guard
        against server-side request forgery. Not needed with {option}`egress`.
      '';
    };

    applicationServices = lib.mkOption {
      type = lib.types.attrsOf lib.types.path;
      default = { };
      example = {
        fhir-bridge = "/var/lib/fhir-bridge/registration.yaml";
      };
      description = ''
        Registration files of application services by their names. They hold tokens, so they are given to Synapse as
        credentials; give paths outside the Nix store.
      '';
    };

    trial = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Settings for a trial or a test: no rate limits, and a federation partner that was away is tried again at once
        rather than after a growing pause. Not for an installation with patients.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.egress == null || cfg.allowedNetworks == [ ];
        message = ''
          services.care-federation.homeserver: egress and allowedNetworks are both set, but with egress the proxy alone
          decides where the homeserver may connect. Remove allowedNetworks.
        '';
      }
      {
        assertion = !(lib.any isWildcard cfg.listenAddresses) || lib.length cfg.listenAddresses == 1;
        message = ''
          services.care-federation.homeserver.listenAddresses has a wildcard and other addresses, of which one is taken
          when the other is there. Write just [ "0.0.0.0" ], or just the addresses.
        '';
      }
    ]
    ++ lib.mapAttrsToList (
      name: secrets.notInStore ''services.care-federation.homeserver.applicationServices."${name}"''
    ) cfg.applicationServices;

    services.care-federation.listeners."homeserver.port" = map (
      host: "${bracketed host}:${toString cfg.port}"
    ) cfg.listenAddresses;

    services.matrix-synapse = {
      enable = true;
      settings = {
        server_name = cfg.name;
        public_baseurl = cfg.baseUrl;
        listeners = [
          {
            inherit (cfg) port;
            bind_addresses = cfg.listenAddresses;
            type = "http";
            tls = false;
            x_forwarded = true;
            resources = [
              {
                names = [
                  "client"
                  "federation"
                ];
                compress = false;
              }
            ];
          }
        ];

        # The network's CA replaces the system's roots, and nobody outside the network is asked for keys.
        federation_custom_ca_list = [ (toString cfg.caCertificate) ];
        trusted_key_servers = [ ];
        suppress_key_server_warning = true;

        # Nothing leaves the network: no previews of links, no statistics.
        url_preview_enabled = lib.mkDefault false;
        report_stats = false;
      }
      // lib.optionalAttrs (cfg.egress != null) { https_proxy = cfg.egress; }
      // lib.optionalAttrs (cfg.allowedNetworks != [ ]) { ip_range_whitelist = cfg.allowedNetworks; }
      // lib.optionalAttrs cfg.trial (import ./trial.nix);
    };

    # Synapse needs the CA's certificate. Where that is copied here later, everything starts when it comes.
    systemd.targets.care-homeserver = {
      description = "Homeserver of the care federation";
      wants = [ synapse.serviceUnit ];
    };
    systemd.paths.care-homeserver = {
      description = "Waits for the certificate of the network's CA";
      wantedBy = [ "multi-user.target" ];
      pathConfig = {
        PathExists = toString cfg.caCertificate;
        Unit = "care-homeserver.target";
      };
    };
    systemd.services.matrix-synapse = {
      wants = caUnit;
      after = caUnit;
      unitConfig.ConditionPathExists = toString cfg.caCertificate;
      # Keep trying: a database that was killed may be away for longer than a few starts take.
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig.RestartSec = lib.mkDefault "1s";
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.port ];
  };
}
