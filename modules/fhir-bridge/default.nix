# fhir-bridge: care teams, conversations and messages between FHIR and one homeserver.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.bridge;
  inherit (cfg) settings;
  inherit (lib) mkOption types;
  inherit (import ../lib/addresses.nix { inherit lib; })
    isPrivate
    isTcp
    portOf
    ;
  inherit (config.services.care-federation) homeserver;
  programs = import ../lib/programs.nix pkgs;
  prefix = "services.care-federation.bridge";

  state = "/var/lib/fhir-bridge";
  user = "fhir-bridge";
  inherit (cfg) registration;
  # Whether the homeserver of the bridge is on this host, so that it can be given the registration.
  isHere = homeserver.enable && homeserver.name == settings.homeserver.server_name;

  tcp = lib.filter isTcp settings.listen;
  # Everything that waits on this machine, as far as these modules know.
  ownAddresses = tcp ++ lib.filter isTcp (settings.homeserver_listen ++ settings.admin);

  # === settings ===

  ofDatabase = if cfg.database == "sqlite" then removeAttrs settings [ "database" ] else settings;
  written = lib.foldl' lib.recursiveUpdate ofDatabase [
    { state_directory = state; }
    cfg.secretSettings
  ];
  file = import ../lib/settings.nix { inherit lib pkgs; } {
    inherit (cfg) package;
    settings = written;
    # The second command also refuses an address that a registration cannot have.
    check = file: ''
      fhir-bridge check-config --offline --config ${file} --state-directory "$TMPDIR"
      fhir-bridge registration --config ${file} --registration "$TMPDIR/registration.yaml" > /dev/null
    '';
  };

  unit = import ../lib/hardening.nix // {
    User = user;
    Group = user;
    StateDirectory = "fhir-bridge";
    StateDirectoryMode = "0700";
  };
  synapseUnits = [
    "matrix-synapse.service"
  ]
  ++ map (name: "matrix-synapse-worker-${name}.service") (
    lib.attrNames config.services.matrix-synapse.workers
  );
  # Who must not start before there is a registration.
  carriers = lib.optionals isHere synapseUnits ++ cfg.registrationUnits;
in
{
  imports = [
    ../homeserver
    ./database.nix
    ./secrets.nix
    ./settings.nix
  ];

  options.services.care-federation.bridge = {
    enable = lib.mkEnableOption "the bridge between FHIR and one homeserver";

    package = lib.mkPackageOption programs "fhir-bridge" { };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to open the ports of {option}`settings.listen` that can be reached from other machines, for FHIR
        clients there. The listener `admin` is never opened.
      '';
    };

    registration = mkOption {
      type = types.str;
      readOnly = true;
      default =
        if cfg.registrationFile != null then
          toString cfg.registrationFile
        else
          "${state}/registration.yaml";
      defaultText = lib.literalMD "{option}`registrationFile`, else {file}`${state}/registration.yaml`";
      description = "Where the registration is. It holds tokens, and only the bridge and root can read it.";
    };

    registrationUnits = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "container@vvt.service" ];
      description = ''
        Units that carry {option}`registration` to a homeserver which is not this host's own: a container with the file
        bound into it, or a service that copies it. They start after it was made.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = isHere || cfg.registrationFile != null || cfg.registrationUnits != [ ];
        message = ''
          ${prefix}: the homeserver "${settings.homeserver.server_name}" is not on this host, so that its registration cannot be handed over.
          Write services.care-federation.homeserver.enable = true; for the homeserver on this host, or make a
          registration with `fhir-bridge registration`, give it to the homeserver, and write
          ${prefix}.registrationFile = "/etc/secrets/fhir-bridge-registration.yaml";
        '';
      }
      {
        assertion =
          !isHere || lib.elem registration (map toString (lib.attrValues homeserver.applicationServices));
        message = ''
          ${prefix}: the homeserver on this host does not list the bridge, and would not know it.
          Write services.care-federation.homeserver.applicationServices.fhir-bridge = "${registration}";
        '';
      }
      {
        assertion =
          settings.fhir.server != null || cfg.tokensFile != null || lib.all isPrivate settings.listen;
        message = ''
          ${prefix}: the FHIR endpoint would be open to everybody who reaches ${
            lib.concatStringsSep ", " (lib.filter (address: !isPrivate address) settings.listen)
          }.
          Write ${prefix}.tokensFile = "/etc/secrets/fhir-clients.toml"; or listen on 127.0.0.1.
        '';
      }
    ];

    services.care-federation.listeners = {
      "bridge.settings.listen" = settings.listen;
      "bridge.settings.homeserver_listen" = settings.homeserver_listen;
      "bridge.settings.admin" = settings.admin;
    };

    services.care-federation.homeserver.applicationServices = lib.mkIf isHere {
      fhir-bridge = lib.mkDefault registration;
    };

    users = import ../lib/user.nix user;

    # For `runuser -u fhir-bridge -- fhir-bridge --config /etc/fhir-bridge.toml status`.
    environment.systemPackages = [ cfg.package ];
    environment.etc."fhir-bridge.toml".source = file;

    systemd.services.fhir-bridge-registration = lib.mkIf (cfg.registrationFile == null) {
      description = "Registration of the FHIR bridge, made once";
      documentation = [ "man:fhir-bridge-registration(1)" ];
      # The homeserver takes the file as a credential when it starts.
      requiredBy = [ "fhir-bridge.service" ] ++ carriers;
      before = [ "fhir-bridge.service" ] ++ carriers;
      serviceConfig = unit // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${lib.getExe cfg.package} registration --readdress --config ${file}";
      };
    };

    systemd.services.fhir-bridge = {
      description = "Bridge between FHIR and the care federation";
      documentation = [ "man:fhir-bridge(1)" ];
      wantedBy = [ "multi-user.target" ];
      # Not after the homeserver: what is written to FHIR meanwhile waits, and so does the bridge.
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      serviceConfig =
        unit
        // import ../lib/network.nix
        // {
          Type = "notify";
          ExecStart = "${lib.getExe cfg.package} run --config ${file}";
          LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") cfg.credentials;
          Restart = "always";
          RestartSec = "1s";
          WatchdogSec = "30s";
          # Requests in hand may finish.
          TimeoutStopSec = "30s";
          LimitNOFILE = 16384;
          TasksMax = 256;
          MemoryMax = "1G";

          # It talks to the homeserver and to a FHIR server, and listens on its own ports alone.
          SocketBindDeny = "any";
          SocketBindAllow = map (port: "tcp:${toString port}") (lib.unique (map portOf ownAddresses));
        };
      # Keep trying: an address or a credential may come later than the program.
      unitConfig.StartLimitIntervalSec = 0;
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall (
      lib.unique (map portOf (lib.filter (address: !isPrivate address) tcp))
    );
  };
}
