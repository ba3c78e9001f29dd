# Where the bridge keeps its state: SQLite files, or PostgreSQL on this machine or elsewhere.
{ config, lib, ... }:
let
  cfg = config.services.care-federation.bridge;
  inherit (cfg) settings;
  inherit (lib) mkOption types;
  prefix = "services.care-federation.bridge";
  user = "fhir-bridge";

  isLocal = cfg.database == "postgresql" && cfg.databaseCreateLocally;
  localUrl = "postgresql:///${user}?user=${user}&host=/run/postgresql";
  # The target, of newer releases of NixOS, is reached when users and databases are made too.
  units = lib.optionals isLocal [
    "postgresql.service"
    "postgresql.target"
  ];
in
{
  options.services.care-federation.bridge = {
    database = mkOption {
      type = types.enum [
        "sqlite"
        "postgresql"
      ];
      default = "sqlite";
      example = "postgresql";
      description = ''
        Where the bridge keeps its state and the embedded FHIR store: SQLite files in {file}`/var/lib/fhir-bridge`, or
        PostgreSQL. With {option}`databaseCreateLocally` that is a server on this machine, which the module sets up;
        else the one in {option}`settings.database.url`. A change does not move
        what is there; {command}`fhir-bridge move` does.
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
  };

  config = lib.mkMerge [
    (lib.mkIf isLocal {
      services.care-federation.bridge.settings.database.url = lib.mkDefault localUrl;
    })

    (lib.mkIf cfg.enable {
      assertions = [
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
          assertion = !isLocal || settings.database.url == localUrl;
          message = ''
            ${prefix}.settings.database.url names a PostgreSQL server elsewhere, but one would be set up on this machine.
            Write ${prefix}.databaseCreateLocally = false;
          '';
        }
      ];

      systemd.services.fhir-bridge = {
        wants = units;
        after = units;
      };
    })

    (lib.mkIf (cfg.enable && isLocal) {
      services.postgresql = {
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
      systemd.services.postgresql.serviceConfig = {
        Restart = lib.mkDefault "always";
        RestartSec = lib.mkDefault "1s";
      };
    })
  ];
}
