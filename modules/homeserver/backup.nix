# A copy of what cannot be made again: the signing key, the secrets and the database.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.homeserver;
  synapse = config.services.matrix-synapse;
  args = synapse.settings.database.args;
  copyDatabase =
    if cfg.database == "sqlite" then
      ''
        ${lib.getExe pkgs.sqlite} ${lib.escapeShellArg args.database} ".backup '$new/homeserver.db'"
      ''
    else
      ''
        ${config.services.postgresql.package}/bin/pg_dump --format=custom \
          --file="$new/homeserver.dump" ${lib.escapeShellArg args.database}
      '';
in
{
  options.services.care-federation.homeserver.backup = {
    enable = lib.mkEnableOption "copies of the homeserver's signing key, secrets and database";

    directory = lib.mkOption {
      type = lib.types.path;
      default = "/var/backup/care-homeserver";
      description = ''
        Where the copies are put, each in a directory named after its time. Copy it to another machine by the means
        that you have; it holds secrets.
      '';
    };

    schedule = lib.mkOption {
      type = lib.types.str;
      default = "daily";
      example = "*-*-* 03:00:00";
      description = "When to copy, as in {manpage}`systemd.time(7)`.";
    };

    keep = lib.mkOption {
      type = lib.types.ints.positive;
      default = 7;
      description = "How many copies to keep.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.backup.enable) {
    systemd.tmpfiles.settings.care-homeserver.${toString cfg.backup.directory}.d = {
      user = "matrix-synapse";
      group = "matrix-synapse";
      mode = "0700";
    };

    systemd.services.care-homeserver-backup = {
      description = "Copy of the homeserver's keys and database";
      requires = [ "care-homeserver-secrets.service" ];
      after = [
        "care-homeserver-secrets.service"
        "matrix-synapse.service"
      ];
      startAt = cfg.backup.schedule;
      script = ''
        directory=${lib.escapeShellArg (toString cfg.backup.directory)}
        new=$directory/.new
        rm -rf "$new"
        mkdir "$new"
        cp ${lib.escapeShellArg synapse.settings.signing_key_path} "$new/homeserver.signing.key"
        for name in ${lib.escapeShellArgs (lib.attrNames cfg.secretPaths)}; do
          cp "$CREDENTIALS_DIRECTORY/$name" "$new/$name"
        done
        ${copyDatabase}
        sync "$new"/*
        mv "$new" "$directory/$(date --utc +%Y-%m-%dT%H-%M-%S.%NZ)"
        find "$directory" -mindepth 1 -maxdepth 1 -type d -name '????-??-??T*Z' | sort | head -n -${toString cfg.backup.keep} |
          while read -r old; do rm -rf "$old"; done
      '';
      serviceConfig = import ../lib/hardening.nix // {
        Type = "oneshot";
        User = "matrix-synapse";
        Group = "matrix-synapse";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") cfg.secretPaths;
        ReadWritePaths = [
          (toString cfg.backup.directory)
        ]
        # SQLite's copy needs the locks beside the database.
        ++ lib.optional (cfg.database == "sqlite") synapse.dataDir;
      };
    };

    systemd.timers.care-homeserver-backup.timerConfig.Persistent = true;
  };
}
