# The homeserver's database: SQLite for a trial, PostgreSQL for work.
{ config, lib, ... }:
let
  cfg = config.services.care-federation.homeserver;
  synapse = config.services.matrix-synapse;
in
{
  options.services.care-federation.homeserver.database = lib.mkOption {
    type = lib.types.enum [
      "sqlite"
      "postgresql"
    ];
    default = "postgresql";
    example = "sqlite";
    description = ''
      Where the homeserver keeps its rooms: a PostgreSQL server on this machine, which the module sets up, or a SQLite
      file, which is enough for a trial with few users and not for workers.
    '';
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (lib.mkIf (cfg.database == "sqlite") {
        assertions = [
          {
            assertion = cfg.workers == 0;
            message = ''
              services.care-federation.homeserver.workers needs PostgreSQL.
              Write services.care-federation.homeserver.database = "postgresql";
            '';
          }
        ];
        services.matrix-synapse.settings.database.name = "sqlite3";
      })

      (lib.mkIf (cfg.database == "postgresql") {
        services.matrix-synapse.settings.database = {
          name = "psycopg2";
          args = {
            cp_min = 5;
            cp_max = 10;
          };
        };
        # NixOS has not always started it again when it was killed.
        systemd.services.postgresql.serviceConfig = {
          Restart = lib.mkDefault "always";
          RestartSec = lib.mkDefault "1s";
        };
        services.postgresql = {
          enable = true;
          # Synapse insists on the C locale; this sets it when the database cluster is made.
          initdbArgs = lib.mkDefault [
            "--locale=C"
            "--encoding=UTF8"
          ];
          ensureDatabases = [ synapse.settings.database.args.database ];
          ensureUsers = [
            {
              name = synapse.settings.database.args.user;
              ensureDBOwnership = true;
            }
          ];
        };
      })
    ]
  );
}
