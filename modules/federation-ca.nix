# federation-ca: the network's certificate authority, and the certificates of the hosts that it serves.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.ca;
  programs = import ./lib/programs.nix pkgs;
  inherit (lib) mkOption types literalExpression;

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
        (lib.escapeShellArgs ([ name ] ++ certificate.extraNames))
      ]
      ++ lib.optional (certificate.group != null) "--group ${certificate.group}"
    );

  # Shared by everything that works in the CA's directory.
  unit = import ./lib/hardening.nix // {
    User = "federation-ca";
    Group = "federation-ca";
    # The groups that may read keys; it must be in them to hand files over, and see them in its own namespace.
    SupplementaryGroups = groups;
    PrivateUsers = false;
    StateDirectory = "federation-ca";
    # Others may enter for the public files and for their own pairs, not look around.
    StateDirectoryMode = "0711";
  };

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

    package = mkOption {
      type = types.package;
      default = programs.federation-ca;
      defaultText = literalExpression "pkgs.federation-ca";
      description = "The package with {command}`federation-ca`.";
    };

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
  };

  config = lib.mkIf cfg.enable {
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

    users.users.federation-ca = {
      isSystemUser = true;
      group = "federation-ca";
      description = "federation-ca";
    };
    users.groups.federation-ca = { };

    environment.systemPackages = [ cfg.package ];

    systemd.services = {
      federation-ca = {
        description = "Certificate authority of the care federation";
        documentation = [ "man:federation-ca(1)" ];
        wantedBy = [ "multi-user.target" ];
        serviceConfig = unit // {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = [
            "${program} init ${lib.concatMapStringsSep " " (name: "--name ${name}") cfg.names}"
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

      # As root, for it tells other units; it reads nothing but the names of the pairs in place.
      federation-ca-reload = lib.mkIf (reloads != { }) {
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
        serviceConfig = import ./lib/hardening.nix // {
          Type = "oneshot";
          PrivateUsers = false;
          RuntimeDirectory = "federation-ca-reload";
          RuntimeDirectoryPreserve = true;
        };
      };
    };

    systemd.timers.federation-ca-renew.timerConfig = {
      Persistent = true;
      RandomizedDelaySec = "5min";
    };
  };
}
