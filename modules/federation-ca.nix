# federation-ca: the network's certificate authority with its enrolment server (EST), and hosts that enrol there.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.ca;
  programs = import ./lib/programs.nix pkgs;
  hardening = import ./lib/hardening.nix;
  secrets = import ./lib/secrets.nix { inherit lib; };
  inherit (lib) mkOption types literalExpression;
  inherit (import ./lib/addresses.nix { inherit lib; }) portOf;

  program = "${lib.getExe cfg.package} --dir ${cfg.directory}";
  groups = lib.unique (
    lib.filter (group: group != null) (
      lib.mapAttrsToList (_: certificate: certificate.group) cfg.certificates
    )
  );
  issue =
    name: certificate:
    lib.concatStringsSep " " (
      [
        program
        "issue"
      ]
      ++ host name certificate
    );
  # The arguments for a name, the same for `issue` and `enrol`.
  host =
    name: certificate:
    [ (lib.escapeShellArg name) ]
    ++ map (san: "--san ${lib.escapeShellArg san}") certificate.extraNames
    ++ lib.optional (certificate.group != null) "--group ${certificate.group}";

  # Shared by everything that works in the CA's directory.
  unit = hardening // {
    User = "federation-ca";
    Group = "federation-ca";
    # The groups that may read keys; it must be in them to hand files over, and see them in its own namespace.
    SupplementaryGroups = groups;
    PrivateUsers = false;
    SystemCallFilter = hardening.SystemCallFilter ++ [ "@chown" ];
    StateDirectory = "federation-ca";
    # Others may enter for the public files and for their own pairs, not look around.
    StateDirectoryMode = "0711";
  };

  withNetwork = {
    PrivateNetwork = false;
    IPAddressDeny = "";
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
    ];
  };

  # One certificate from an authority elsewhere. The token is needed once; afterwards the present certificate speaks for
  # the host, and the token's file may go.
  enrol =
    name: certificate:
    let
      trust =
        if cfg.client.fingerprint != null then
          "--fingerprint ${cfg.client.fingerprint}"
        else
          "--ca ${toString cfg.client.caFile}";
    in
    ''
      set -- enrol ${lib.concatStringsSep " " (host name certificate)} --server ${lib.escapeShellArg cfg.client.server}
      if [ ! -e ${cfg.directory}/ca.pem ]; then
        set -- "$@" ${trust}
      fi
      token=$CREDENTIALS_DIRECTORY/token-${name}
      if [ -e "$token" ] && [ "$(cat "$token")" != ${noToken} ]; then
        set -- "$@" --token-file "$token"
      fi
      ${program} "$@"
    '';
  noToken = "none";
  tokens = lib.filterAttrs (_: certificate: certificate.tokenFile != null) cfg.certificates;

  reloads = lib.filterAttrs (_: certificate: certificate.reloadUnits != [ ]) cfg.certificates;

  certificate = types.submodule {
    options = {
      extraNames = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "matrix.vvt.example" ];
        description = "Further names that the certificate is for.";
      };
      group = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "federation-proxy";
        description = "The group that may read the key; null for nobody but the CA itself.";
      };
      tokenFile = secrets.mkSecretOption {
        example = "/etc/secrets/enrolment-token";
        description = ''
          With {option}`services.care-federation.ca.client`: a file with the one-time token for the first certificate,
          made by {command}`federation-ca token NAME` on the CA's host. It may be removed when the certificate is there.
        '';
      };
      reloadUnits = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "nginx.service" ];
        description = ''
          Units that are reloaded, or restarted where they cannot reload, when the certificate was renewed. The
          federation proxy notices by itself.
        '';
      };
    };
  };
in
{
  options.services.care-federation.ca = {
    enable = lib.mkEnableOption "the network's certificate authority";

    package = lib.mkPackageOption programs "federation-ca" { };

    directory = mkOption {
      type = types.path;
      default = "/var/lib/federation-ca";
      readOnly = true;
      description = ''
        Where the CA lives: {file}`ca.pem` for everybody, {file}`ca.key` for itself, and a directory with
        {file}`cert.pem` and {file}`key.pem` for each name under {file}`certs`. Keep a copy of it in a safe place.
      '';
    };

    certificate = mkOption {
      type = types.path;
      default = "${cfg.directory}/ca.pem";
      readOnly = true;
      description = "The CA's certificate: the root for everyone in the network.";
    };

    names = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "apotheek"
        "huisarts"
        "vvt"
      ];
      description = ''
        The names, and what is below them, for which the CA may issue certificates. Verifiers refuse all others, so a CA
        whose key is stolen is no danger outside the network.
      '';
    };

    certificates = mkOption {
      type = types.attrsOf certificate;
      default = { };
      example = literalExpression ''{ vvt.group = "federation-proxy"; }'';
      description = ''
        Certificates for services on this host, by name. They are made on the first start, and renewed at two thirds of
        their life.
      '';
    };

    renewal = mkOption {
      type = types.str;
      default = "hourly";
      example = "daily";
      description = "How often to look for certificates that are due, as in {manpage}`systemd.time(7)`.";
    };

    est = {
      enable = lib.mkEnableOption "enrolment over the network (EST, RFC 7030), so that other hosts get certificates";

      name = mkOption {
        type = types.str;
        default = "ca";
        example = "ca.zorgnetwerk.example";
        description = "The name by which the other hosts call this server; the CA certifies it too.";
      };

      listen = mkOption {
        type = types.nonEmptyListOf types.str;
        default = [ "[::]:8449" ];
        example = [ "10.0.0.2:8449" ];
        description = "Where to listen. `[::]` takes IPv4 too.";
      };

      openFirewall = mkOption {
        type = types.bool;
        default = false;
        description = "Whether to open the ports of {option}`listen` in the firewall.";
      };
    };

    client = {
      enable = lib.mkEnableOption "certificates from a CA on another host (EST, RFC 7030). The keys are made here and never leave this host";

      server = mkOption {
        type = types.nullOr (types.strMatching "https://.+");
        default = null;
        example = "https://ca.zorgnetwerk.example:8449";
        description = "The enrolment server.";
      };

      fingerprint = mkOption {
        type = types.nullOr (types.strMatching "[0-9A-Fa-f:]{64,95}");
        default = null;
        example = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
        description = ''
          The SHA-256 fingerprint of the CA's certificate, for the first contact; {command}`federation-ca show` on the
          CA's host prints it.
        '';
      };

      caFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = literalExpression "./ca.pem";
        description = "The CA's certificate (PEM), instead of its {option}`fingerprint`. It is public.";
      };
    };
  };

  config = lib.mkMerge [
    (lib.mkIf (cfg.enable || cfg.client.enable) {
      assertions = [
        {
          assertion = !(cfg.enable && cfg.client.enable);
          message = ''
            services.care-federation.ca: this host cannot both have the CA and be a client of another.
            Set either services.care-federation.ca.enable or services.care-federation.ca.client.enable.
          '';
        }
      ];

      users.users.federation-ca = {
        isSystemUser = true;
        group = "federation-ca";
        description = "federation-ca";
      };
      users.groups.federation-ca = { };

      environment.systemPackages = [ cfg.package ];

      # As root, for it tells other units; it reads nothing but the names of the pairs in place.
      systemd.services.federation-ca-reload = lib.mkIf (reloads != { }) {
        description = "Reload of the units whose certificates were renewed";
        script = lib.concatStrings (
          lib.mapAttrsToList (name: certificate: ''
            now=$(readlink ${cfg.directory}/certs/${name})
            before=$(cat "$RUNTIME_DIRECTORY/${name}" 2>/dev/null || true)
            if [ "$now" != "$before" ]; then
              systemctl try-reload-or-restart ${lib.escapeShellArgs certificate.reloadUnits}
              echo "$now" > "$RUNTIME_DIRECTORY/${name}"
            fi
          '') reloads
        );
        serviceConfig = hardening // {
          Type = "oneshot";
          PrivateUsers = false;
          RuntimeDirectory = "federation-ca-reload";
          RuntimeDirectoryPreserve = true;
        };
      };
    })

    (lib.mkIf cfg.enable {
      assertions = [
        {
          assertion = cfg.names != [ ];
          message = ''
            services.care-federation.ca.names is empty: the CA could issue nothing.
            Write the names of the network: services.care-federation.ca.names = [ "vvt" ];
          '';
        }
      ]
      ++ lib.mapAttrsToList (name: _: {
        assertion = lib.any (permitted: name == permitted || lib.hasSuffix ".${permitted}" name) cfg.names;
        message = ''
          services.care-federation.ca.certificates."${name}" is for a name that the CA may not certify.
          Add it: services.care-federation.ca.names = [ "${name}" ];
        '';
      }) cfg.certificates;

      systemd.services = {
        federation-ca = {
          description = "Certificate authority of the care federation";
          documentation = [ "man:federation-ca(1)" ];
          wantedBy = [ "multi-user.target" ];
          serviceConfig = unit // {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = [
              "${program} init ${
                lib.concatMapStringsSep " " (name: "--name ${lib.escapeShellArg name}") (
                  cfg.names ++ lib.optional cfg.est.enable cfg.est.name
                )
              }"
            ]
            ++ lib.mapAttrsToList issue cfg.certificates;
          };
        };

        federation-ca-renew = {
          description = "Renewal of the certificates that are due";
          documentation = [ "man:federation-ca(1)" ];
          requires = [ "federation-ca.service" ];
          after = [ "federation-ca.service" ];
          startAt = cfg.renewal;
          unitConfig.OnSuccess = lib.optional (reloads != { }) "federation-ca-reload.service";
          serviceConfig = unit // {
            Type = "oneshot";
            ExecStart = "${program} renew";
          };
        };
      };

      systemd.timers.federation-ca-renew.timerConfig = {
        Persistent = true;
        RandomizedDelaySec = "5min";
      };
    })

    (lib.mkIf (cfg.enable && cfg.est.enable) {
      systemd.sockets.federation-ca-est = {
        description = "Enrolment in the care federation (EST)";
        wantedBy = [ "sockets.target" ];
        listenStreams = cfg.est.listen;
        socketConfig = {
          FileDescriptorName = "est";
          BindIPv6Only = "both";
          # Sockets come before the network, so that an address may not be there yet.
          FreeBind = true;
          NoDelay = true;
        };
      };

      systemd.services.federation-ca-est = {
        description = "Enrolment in the care federation (EST)";
        documentation = [ "man:federation-ca-serve(1)" ];
        requires = [
          "federation-ca.service"
          "federation-ca-est.socket"
        ];
        after = [ "federation-ca.service" ];
        wantedBy = [ "multi-user.target" ];
        serviceConfig =
          unit
          // withNetwork
          // {
            Type = "notify";
            ExecStart = "${program} serve --listen systemd:est --name ${lib.escapeShellArg cfg.est.name}";
            Restart = "always";
            RestartSec = "1s";
            WatchdogSec = "30s";
            MemoryMax = "256M";
            TasksMax = 128;
            # Its port comes from the socket unit, and it calls nobody.
            SocketBindDeny = "any";
          };
      };

      networking.firewall.allowedTCPPorts = lib.mkIf cfg.est.openFirewall (map portOf cfg.est.listen);
    })

    (lib.mkIf cfg.client.enable {
      assertions = [
        {
          assertion = cfg.client.server != null;
          message = ''
            services.care-federation.ca.client.server is not set.
            Write the enrolment server: services.care-federation.ca.client.server = "https://ca.example:8449";
          '';
        }
        {
          assertion = cfg.client.fingerprint != null || cfg.client.caFile != null;
          message = ''
            services.care-federation.ca.client does not say which CA to trust at the first contact.
            Write its fingerprint, which `federation-ca show` prints on the CA's host:
            services.care-federation.ca.client.fingerprint = "...";
          '';
        }
      ]
      ++ lib.mapAttrsToList (
        name: certificate:
        secrets.notInStore ''services.care-federation.ca.certificates."${name}".tokenFile'' certificate.tokenFile
      ) cfg.certificates;

      systemd.services.federation-ca-client = {
        description = "Certificates from the network's certificate authority";
        documentation = [ "man:federation-ca-enrol(1)" ];
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        startAt = cfg.renewal;
        script = lib.concatStrings (lib.mapAttrsToList enrol cfg.certificates);
        unitConfig = {
          OnSuccess = lib.optional (reloads != { }) "federation-ca-reload.service";
          StartLimitIntervalSec = 0;
        };
        serviceConfig =
          unit
          // withNetwork
          // {
            Type = "oneshot";
            # The CA's host may be away for a while.
            Restart = "on-failure";
            RestartSec = "10s";
            LoadCredential = lib.mapAttrsToList (
              name: certificate: "token-${name}:${toString certificate.tokenFile}"
            ) tokens;
            # Where the file is gone, which is no mistake once there is a certificate.
            SetCredential = lib.mapAttrsToList (name: _: "token-${name}:${noToken}") tokens;
          };
      };

      systemd.timers.federation-ca-client.timerConfig = {
        Persistent = true;
        RandomizedDelaySec = "5min";
      };
    })
  ];
}
