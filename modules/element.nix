# Element Web, served by the federation proxy and pointed at one organisation's homeserver.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.element;
  inherit (lib) mkOption types literalExpression;

  site =
    name: client:
    lib.nameValuePair "element-${name}" {
      inherit (client) listen;
      root = client.package;
      config = lib.recursiveUpdate {
        default_server_config."m.homeserver" = {
          base_url = client.homeserver;
          server_name = name;
        };
        brand = client.title;
        # The client belongs to this organisation: no other servers, no services outside the network.
        disable_custom_urls = true;
        disable_guests = true;
        disable_3pid_login = true;
        integrations_ui_url = "";
        integrations_rest_url = "";
        integrations_widgets_urls = [ ];
        room_directory.servers = [ name ];
      } client.settings;
    };
in
{
  imports = [ ./federation-proxy ];

  options.services.care-federation.element = mkOption {
    default = { };
    example = literalExpression ''
      {
        vvt = {
          title = "Thuiszorg (VVT)";
          homeserver = "https://vvt:8448";
        };
      }
    '';
    description = "Element Web for organisations, by server name.";
    type = types.attrsOf (
      types.submodule (
        { name, ... }:
        {
          options = {
            package = lib.mkPackageOption pkgs "element-web" { };

            listen = mkOption {
              type = types.nonEmptyListOf types.str;
              default = [ "[::]:8003" ];
              example = [ "127.0.0.1:8003" ];
              description = "Where Element is served, in plain HTTP.";
            };

            homeserver = mkOption {
              type = types.str;
              default = "https://${name}:8448";
              defaultText = literalExpression ''"https://NAME:8448"'';
              example = "http://vvt.localhost:8008";
              description = "The organisation's homeserver as the browser reaches it.";
            };

            title = mkOption {
              type = types.str;
              default = name;
              defaultText = lib.literalMD "the server name";
              example = "Thuiszorg (VVT)";
              description = "What the client calls itself.";
            };

            settings = mkOption {
              inherit (pkgs.formats.json { }) type;
              default = { };
              example = {
                default_theme = "dark";
              };
              description = ''
                Further settings, as in [Element's config.json](https://github.com/element-hq/element-web/blob/develop/docs/config.md).
              '';
            };
          };
        }
      )
    );
  };

  config = lib.mkIf (cfg != { }) {
    assertions = [
      {
        assertion = config.services.care-federation.proxy.enable;
        message = ''
          services.care-federation.element is served by the federation proxy, which is not enabled on this host.
          Write services.care-federation.proxy.enable = true;
        '';
      }
    ];

    services.care-federation.proxy.settings.static_sites = lib.mapAttrs' site cfg;
  };
}
