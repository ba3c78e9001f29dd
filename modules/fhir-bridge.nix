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
  inherit (lib) mkOption types literalExpression;
  inherit (config.services.care-federation) homeserver;
  proxy = config.services.care-federation.proxy or { enable = false; };
  programs = import ./lib/programs.nix pkgs;
  secrets = import ./lib/secrets.nix { inherit lib; };
  toml = pkgs.formats.toml { };
  prefix = "services.care-federation.bridge";

  state = "/var/lib/fhir-bridge";
  # Of the unit, and in PostgreSQL.
  user = "fhir-bridge";
  localUrl = "postgresql:///${user}?user=${user}&host=/run/postgresql";
  localDatabase = cfg.database == "postgresql" && cfg.databaseCreateLocally;
  inherit (cfg) registration;
  # Whether the homeserver of the bridge is on this host, so that it can be given the registration.
  isHere = homeserver.enable && homeserver.name == settings.homeserver.server_name;

  # === addresses ===

  isTcp = address: !(lib.hasPrefix "unix:" address) && !(lib.hasPrefix "systemd:" address);
  portOf = address: lib.toIntBase10 (lib.last (lib.splitString ":" address));
  hostOf = address: lib.removeSuffix ":${toString (portOf address)}" address;
  wildcards = [
    "0.0.0.0"
    "::"
    "[::]"
  ];
  # How a program on this machine reaches a listener.
  reached = host: if lib.elem host wildcards then "127.0.0.1" else host;
  bracketed = host: if lib.hasInfix ":" host && !(lib.hasPrefix "[" host) then "[${host}]" else host;
  # Only this machine reaches it.
  isPrivate =
    address:
    lib.any (start: lib.hasPrefix start address) [
      "127."
      "[::1]:"
      "unix:"
    ];

  tcp = lib.filter isTcp settings.listen;
  urlOf = address: "http://${reached (hostOf address)}:${toString (portOf address)}";
  first = lib.head (tcp ++ [ "127.0.0.1:1234" ]);
  homeserverUrl = "http://${bracketed (reached (lib.head homeserver.listenAddresses))}:${toString homeserver.port}";

  # Everything that waits on this machine, as far as these modules know.
  ownAddresses = tcp ++ lib.filter isTcp (settings.homeserver_listen ++ settings.admin);
  otherAddresses =
    lib.optionals homeserver.enable (
      map (host: "${bracketed host}:${toString homeserver.port}") homeserver.listenAddresses
    )
    ++ lib.optionals proxy.enable (
      lib.filter isTcp (
        lib.concatLists (lib.attrValues proxy.settings.listen)
        ++ lib.concatMap (site: site.listen) (lib.attrValues proxy.settings.static_sites)
      )
    );
  clash =
    one: other:
    portOf one == portOf other
    && (
      hostOf one == hostOf other || lib.elem (hostOf one) wildcards || lib.elem (hostOf other) wildcards
    );
  # Addresses of the bridge on which something else waits, or the bridge itself once more.
  taken = lib.unique (
    lib.concatLists (
      lib.imap0 (
        index: address: lib.filter (clash address) (lib.drop (index + 1) ownAddresses ++ otherAddresses)
      ) ownAddresses
    )
  );

  # === settings ===

  # Secrets by the names of their credentials.
  credentials = lib.filterAttrs (_: path: path != null) {
    "registration.yaml" = cfg.registrationFile;
    "tokens.toml" = cfg.tokensFile;
    "viewers.toml" = cfg.viewersFile;
    database-password = cfg.databasePasswordFile;
    fhir-token = cfg.fhirServer.tokenFile;
    "fhir-certificate.pem" = cfg.fhirServer.certificateFile;
    "fhir-key.pem" = cfg.fhirServer.keyFile;
  };
  given = name: "/run/credentials/fhir-bridge.service/${name}";
  # A setting that names a credential, where that was given.
  naming =
    path: name: lib.optionalAttrs (credentials ? ${name}) (lib.setAttrByPath path (given name));
  ofDatabase = if cfg.database == "sqlite" then removeAttrs settings [ "database" ] else settings;
  written = lib.foldl' lib.recursiveUpdate ofDatabase [
    { state_directory = state; }
    (naming [ "registration" ] "registration.yaml")
    (naming [ "fhir" "tokens_file" ] "tokens.toml")
    (naming [ "page" "viewers_file" ] "viewers.toml")
    (naming [ "database" "password_file" ] "database-password")
    (naming [ "fhir" "server" "token_file" ] "fhir-token")
    (naming [ "fhir" "server" "certificate_file" ] "fhir-certificate.pem")
    (naming [ "fhir" "server" "smart" "key_file" ] "fhir-key.pem")
  ];
  withoutNulls = lib.filterAttrsRecursive (_: value: value != null);
  unchecked = toml.generate "fhir-bridge-unchecked.toml" (withoutNulls written);
  # The second command also refuses an address that a registration cannot have.
  checked = pkgs.runCommandLocal "fhir-bridge.toml" { nativeBuildInputs = [ cfg.package ]; } ''
    fhir-bridge check-config --offline --config ${unchecked} --state-directory "$TMPDIR"
    fhir-bridge registration --config ${unchecked} --registration "$TMPDIR/registration.yaml" > /dev/null
    cp ${unchecked} $out
  '';
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
  file = if canRun then checked else unchecked;

  unit = import ./lib/hardening.nix // {
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
  # The target, of newer releases of NixOS, is reached when users and databases are made too.
  databaseUnits = lib.optionals localDatabase [
    "postgresql.service"
    "postgresql.target"
  ];
  # Who must not start before there is a registration.
  carriers = lib.optionals isHere synapseUnits ++ cfg.registrationUnits;
in
{
  imports = [ ./homeserver ];

  options.services.care-federation.bridge = {
    enable = lib.mkEnableOption "the bridge between FHIR and one homeserver";

    package = mkOption {
      type = types.package;
      default = programs.fhir-bridge;
      defaultText = literalExpression "pkgs.fhir-bridge";
      description = "The package with {command}`fhir-bridge`.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to open the ports of {option}`settings.listen` that can be reached from other machines, for FHIR
        clients there. The listener `admin` is never opened.
      '';
    };

    registrationFile = secrets.mkSecretOption {
      example = "/etc/secrets/fhir-bridge-registration.yaml";
      description = ''
        An existing registration of the bridge. Without it one with fresh tokens is made on the first start, kept in
        {file}`${state}/registration.yaml`, and handed to the homeserver on this host, which starts after it. Needed
        where the homeserver is on another host: that one must be given the same file.
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

    database = mkOption {
      type = types.enum [
        "sqlite"
        "postgresql"
      ];
      default = "sqlite";
      example = "postgresql";
      description = ''
        Where the bridge keeps its state and the embedded FHIR store: SQLite files in {file}`${state}`, or PostgreSQL.
        With {option}`databaseCreateLocally` that is a server on this machine, which the module sets up; else the one in
        {option}`settings.database.url`. What is in the one is not moved to the other.
      '';
    };

    databaseCreateLocally = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        With {option}`database` `postgresql`: whether to set up PostgreSQL on this machine, with a database of the
        bridge's own. The bridge reaches it by a Unix socket, where PostgreSQL knows its user; there is no password.
      '';
    };

    databasePasswordFile = secrets.mkSecretOption {
      example = "/etc/secrets/fhir-bridge-database";
      description = "A file with the password for the PostgreSQL server in {option}`settings.database.url`.";
    };

    tokensFile = secrets.mkSecretOption {
      example = "/etc/secrets/fhir-clients.toml";
      description = ''
        The clients of the embedded FHIR endpoint: a TOML file of tables `[[client]]` with `name`, `token` and `scopes`.
        Without it everybody on this machine may use the endpoint, and it can listen on loopback alone.
      '';
    };

    viewersFile = secrets.mkSecretOption {
      example = "/etc/secrets/bridge-viewers.toml";
      description = ''
        Those who may see names and texts on the bridge's web page at {option}`settings.admin`: a TOML file like
        {option}`tokensFile`. Without it the page has numbers alone.
      '';
    };

    fhirServer = {
      tokenFile = secrets.mkSecretOption {
        example = "/etc/secrets/fhir-token";
        description = "A bearer token for the FHIR server in {option}`settings.fhir.server`.";
      };
      certificateFile = secrets.mkSecretOption {
        example = "/etc/secrets/fhir-client.pem";
        description = "A client certificate with its chain and key (PEM) for the FHIR server in {option}`settings.fhir.server`.";
      };
      keyFile = secrets.mkSecretOption {
        example = "/etc/secrets/fhir-smart.pem";
        description = ''
          The private key (PEM, PKCS #8) with which the bridge logs in by SMART backend services; the name of the client
          goes to {option}`settings.fhir.server`, as `smart.client_id`.
        '';
      };
    };

    settings = mkOption {
      default = { };
      description = ''
        The bridge's settings, as in its TOML file; the manual names them all. They are checked by the program itself
        when the system is built.
      '';
      type = types.submodule {
        freeformType = toml.type;
        options = {
          listen = mkOption {
            type = types.listOf types.str;
            default = [ "127.0.0.1:1234" ];
            example = [
              "127.0.0.1:1234"
              "10.0.0.5:1234"
            ];
            description = "Where the homeserver and FHIR clients reach the bridge.";
          };
          homeserver_listen = mkOption {
            type = types.listOf types.str;
            default = [ ];
            example = [ "10.0.0.5:1234" ];
            description = ''
              Where the homeserver alone reaches the bridge, when it is on another host or in a container; there is no
              FHIR there. Open the port yourself, on the network interface between the two.
            '';
          };
          admin = mkOption {
            type = types.listOf types.str;
            default = [ "127.0.0.1:1235" ];
            example = [ ];
            description = "`/healthz`, `/metrics` and the web page; keep it private.";
          };
          url = mkOption {
            type = types.str;
            default = urlOf (lib.head (lib.filter isTcp settings.homeserver_listen ++ [ first ]));
            defaultText = lib.literalMD "the first address in {option}`homeserver_listen`, else in {option}`listen`";
            example = "http://10.0.0.5:1234";
            description = "Where the homeserver reaches the bridge, for a registration that is made.";
          };
          database.url = mkOption {
            type = types.nullOr types.str;
            default = if localDatabase then localUrl else null;
            defaultText = lib.literalMD "the database on this machine, with {option}`databaseCreateLocally`";
            example = "postgresql://fhir-bridge@db.example.nl/fhir-bridge";
            description = "Where PostgreSQL is, with {option}`database` `postgresql`.";
          };
          homeserver = {
            url = mkOption {
              type = types.str;
              default = if homeserver.enable then homeserverUrl else "http://127.0.0.1:8008";
              defaultText = lib.literalMD "the homeserver on this host";
              example = "https://matrix.vvt.example";
              description = "Where the bridge reaches the homeserver.";
            };
            server_name = mkOption {
              type = types.str;
              default = if homeserver.enable then homeserver.name else "localhost";
              defaultText = literalExpression "config.services.care-federation.homeserver.name";
              example = "vvt";
              description = "The homeserver's name.";
            };
          };
          fhir = {
            base = mkOption {
              type = types.str;
              default = "${urlOf first}/fhir";
              defaultText = lib.literalMD "`/fhir` at the first address in {option}`listen`";
              example = "https://fhir.vvt.example/fhir";
              description = "The embedded FHIR endpoint's address as its clients call it.";
            };
            server = mkOption {
              default = null;
              example = {
                base = "https://fhir.example.nl/r4";
              };
              description = "A FHIR server elsewhere, instead of the embedded endpoint.";
              type = types.nullOr (
                types.submodule {
                  freeformType = toml.type;
                  options.base = mkOption {
                    type = types.str;
                    example = "https://fhir.example.nl/r4";
                    description = "Its base address.";
                  };
                }
              );
            };
          };
        };
      };
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
      {
        assertion = taken == [ ];
        message = ''
          ${prefix}: something else waits on ${lib.concatStringsSep " and on " taken} already.
          Give the bridge another port in ${prefix}.settings.listen or admin.
        '';
      }
      {
        assertion =
          settings.fhir.server != null || lib.all (path: path == null) (lib.attrValues cfg.fhirServer);
        message = ''
          ${prefix}.fhirServer has credentials, but there is no FHIR server elsewhere to show them to.
          Write ${prefix}.settings.fhir.server.base = "https://...";
        '';
      }
    ]
    ++ [
      {
        assertion = cfg.database == "sqlite" || settings.database.url != null;
        message = ''
          ${prefix} does not say which PostgreSQL server to use.
          Write ${prefix}.databaseCreateLocally = true; for one on this machine, or
          ${prefix}.settings.database.url = "postgresql://fhir-bridge@db.example.nl/fhir-bridge";
        '';
      }
      {
        assertion = cfg.database == "postgresql" || settings.database.url == null;
        message = ''
          ${prefix}.settings.database.url names a PostgreSQL server, but the database is "sqlite".
          Write ${prefix}.database = "postgresql";
        '';
      }
      {
        assertion = !localDatabase || settings.database.url == localUrl;
        message = ''
          ${prefix}.settings.database.url names a PostgreSQL server elsewhere, but one would be set up on this machine.
          Write ${prefix}.databaseCreateLocally = false;
        '';
      }
      (secrets.notInStore "${prefix}.registrationFile" cfg.registrationFile)
      (secrets.notInStore "${prefix}.databasePasswordFile" cfg.databasePasswordFile)
      (secrets.notInStore "${prefix}.tokensFile" cfg.tokensFile)
      (secrets.notInStore "${prefix}.viewersFile" cfg.viewersFile)
      (secrets.notInStore "${prefix}.settings.registration" (settings.registration or null))
      (secrets.notInStore "${prefix}.settings.fhir.tokens_file" (settings.fhir.tokens_file or null))
    ]
    ++ lib.mapAttrsToList (name: secrets.notInStore "${prefix}.fhirServer.${name}") cfg.fhirServer;

    services.care-federation.homeserver.applicationServices = lib.mkIf isHere {
      fhir-bridge = lib.mkDefault registration;
    };

    users.users.${user} = {
      isSystemUser = true;
      group = user;
      description = user;
    };
    users.groups.${user} = { };

    services.postgresql = lib.mkIf localDatabase {
      enable = true;
      ensureDatabases = [ user ];
      ensureUsers = [
        {
          name = user;
          ensureDBOwnership = true;
        }
      ];
    };
    # NixOS has not always started it again when it was killed.
    systemd.services.postgresql = lib.mkIf localDatabase {
      serviceConfig = {
        Restart = lib.mkDefault "always";
        RestartSec = lib.mkDefault "1s";
      };
    };

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
        ExecStart = "${lib.getExe cfg.package} registration --config ${file}";
      };
    };

    systemd.services.fhir-bridge = {
      description = "Bridge between FHIR and the care federation";
      documentation = [ "man:fhir-bridge(1)" ];
      wantedBy = [ "multi-user.target" ];
      # Not after the homeserver: what is written to FHIR meanwhile waits, and so does the bridge.
      wants = [ "network-online.target" ] ++ databaseUnits;
      after = [ "network-online.target" ] ++ databaseUnits;
      serviceConfig = unit // {
        Type = "notify";
        ExecStart = "${lib.getExe cfg.package} run --config ${file}";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${toString path}") credentials;
        Restart = "always";
        RestartSec = "1s";
        WatchdogSec = "30s";
        # Requests in hand may finish.
        TimeoutStopSec = "30s";
        LimitNOFILE = 16384;
        TasksMax = 256;
        MemoryMax = "1G";

        # It talks to the homeserver and to a FHIR server, and listens on its own ports alone.
        PrivateNetwork = false;
        IPAddressDeny = "";
        SocketBindDeny = "any";
        SocketBindAllow = map (port: "tcp:${toString port}") (lib.unique (map portOf ownAddresses));
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX"
        ];
      };
      # Keep trying: an address or a credential may come later than the program.
      unitConfig.StartLimitIntervalSec = 0;
    };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall (
      lib.unique (map portOf (lib.filter (address: !isPrivate address) tcp))
    );
  };
}
