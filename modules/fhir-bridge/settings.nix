# The bridge's settings, as in its TOML file.
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
  addresses = import ../lib/addresses.nix { inherit lib; };
  toml = pkgs.formats.toml { };

  tcp = lib.filter addresses.isTcp settings.listen;
  first = lib.head (tcp ++ [ "127.0.0.1:1234" ]);
  urlOf =
    address:
    "http://${addresses.reached (addresses.hostOf address)}:${toString (addresses.portOf address)}";
  homeserverUrl = "http://${addresses.reached (lib.head homeserver.listenAddresses)}:${toString homeserver.port}";
in
{
  options.services.care-federation.bridge = {
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
            default = urlOf (lib.head (lib.filter addresses.isTcp settings.homeserver_listen ++ [ first ]));
            defaultText = lib.literalMD "the first address in {option}`homeserver_listen`, else in {option}`listen`";
            example = "http://10.0.0.5:1234";
            description = "Where the homeserver reaches the bridge, for a registration that is made.";
          };
          database.url = mkOption {
            type = types.nullOr types.str;
            default = null;
            defaultText = lib.literalMD "the database on this machine, with {option}`database` `postgresql` and {option}`databaseCreateLocally`";
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
}
