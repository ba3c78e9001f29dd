# What can be said of the proxy.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.proxy;
  inherit (config.services.care-federation) ca;
  programs = import ../lib/programs.nix pkgs;
  toml = pkgs.formats.toml { };
  inherit (lib) mkOption types literalExpression;

  addresses =
    default: example: description:
    mkOption {
      type = types.listOf types.str;
      inherit default example description;
    };

  # Where the certificate of a server is, by where it comes from.
  filesOf = {
    files = _: { };
    ca = name: {
      certificate = "${ca.directory}/certs/${name}/cert.pem";
      key = "${ca.directory}/certs/${name}/key.pem";
    };
    acme = name: {
      certificate = "${config.security.acme.certs.${name}.directory}/fullchain.pem";
      key = "${config.security.acme.certs.${name}.directory}/key.pem";
    };
  };

  server = types.submodule (
    { name, ... }:
    {
      freeformType = toml.type;
      config = lib.mapAttrs (_: lib.mkDefault) (filesOf.${cfg.certificates} name);
      options = {
        upstream = mkOption {
          type = types.str;
          example = "http://127.0.0.1:8038";
          description = "Where the homeserver listens: `http://ADDRESS:PORT` or `unix:PATH`.";
        };
        certificate = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "/var/lib/acme/vvt.example/fullchain.pem";
          description = ''
            Its certificate with the chain up to the CA (PEM). Set by {option}`services.care-federation.proxy.certificates`
            unless that is `files`. Without a certificate the server is reached in plain text alone.
          '';
        };
        key = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "/var/lib/acme/vvt.example/key.pem";
          description = "The key of the certificate (PEM), which the group `federation-proxy` must be able to read.";
        };
        hosts = mkOption {
          type = types.listOf types.str;
          default = [ ];
          example = [ "vvt.localhost" ];
          description = "Further host names that it answers to, beside its server name.";
        };
        federation = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "vvt:8448";
          description = "What `/.well-known/matrix/server` says; null for nothing.";
        };
        client = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "https://vvt:8448";
          description = "The address of the homeserver for clients, in `/.well-known/matrix/client`; null for nothing.";
        };
        admin_api = mkOption {
          type = types.bool;
          default = false;
          description = "Whether `/_synapse/admin` can be reached through the proxy.";
        };
      };
    }
  );
  site = types.submodule {
    freeformType = toml.type;
    options = {
      listen = addresses [ ] [ "[::]:8003" ] "Where the directory is served, in plain HTTP.";
      root = mkOption {
        type = types.path;
        example = literalExpression "pkgs.element-web";
        description = "The directory.";
      };
    };
  };
in
{
  options.services.care-federation.proxy = {
    enable = lib.mkEnableOption "the federation proxy";

    package = lib.mkPackageOption programs "federation-proxy" { };

    certificates = mkOption {
      type = types.enum [
        "ca"
        "acme"
        "files"
      ];
      default = if ca.enable || ca.client.enable then "ca" else "files";
      defaultText = lib.literalMD "`\"ca\"` where this host has or uses a CA of the network, else `\"files\"`";
      description = ''
        Where the servers' certificates come from: `ca`, the network's own CA, which is told of them
        ({option}`services.care-federation.ca.certificates`); `acme`, {option}`security.acme`, with a certificate of
        the server's name; `files`, those named in {option}`settings.servers`.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to open the ports of the TLS listeners and of the static sites in the firewall. Both 443 and 8448 are
        needed: other homeservers look on 443 first, and wait a minute where packets to it are dropped. The listeners
        `plain`, `egress` and `admin` are never opened.
      '';
    };

    settings = mkOption {
      default = { };
      description = ''
        The proxy's settings, as in its TOML file; `federation-proxy --help` and the manual name them all. They are
        checked by the program itself when the system is built.
      '';
      type = types.submodule {
        freeformType = toml.type;
        options = {
          listen = {
            tls =
              addresses
                [
                  "[::]:443"
                  "[::]:8448"
                ]
                [ "203.0.113.7:8448" ]
                "TLS by server name: federation, its discovery, and clients. `[::]` takes IPv4 too.";
            plain = addresses [ ] [ "127.0.0.1:8008" ] ''
              Plain HTTP by `Host`, for browsers on this machine.
            '';
            egress = addresses [ "127.0.0.1:3128" ] [ ] ''
              HTTP CONNECT for the homeservers' own calls; keep it private.
            '';
            admin = addresses [ "127.0.0.1:9448" ] [ ] "`/healthz` and `/metrics`; keep it private.";
          };
          servers = mkOption {
            type = types.attrsOf server;
            default = { };
            example = literalExpression ''{ vvt.upstream = "http://127.0.0.1:8038"; }'';
            description = "The homeservers behind the proxy, by server name.";
          };
          static_sites = mkOption {
            type = types.attrsOf site;
            default = { };
            description = "Directories that are served as they are, such as Element Web.";
          };
          policy = {
            members = mkOption {
              type = types.nullOr (types.listOf types.str);
              default = null;
              example = [
                "apotheek"
                "huisarts"
                "vvt"
              ];
              description = ''
                The server names that may federate with the servers behind the proxy. Null together with
                {option}`members_file` null means everybody.
              '';
            };
            members_file = mkOption {
              type = types.nullOr types.path;
              default = null;
              example = "/etc/care-federation/members";
              description = "A file with more members, one a line, watched for changes.";
            };
          };
          egress.targets = mkOption {
            type = types.attrsOf types.str;
            default = { };
            example = {
              "huisarts:8448" = "203.0.113.8:8448";
            };
            description = "The federation endpoints that homeservers may reach, as `NAME:PORT`, and where each is.";
          };
        };
      };
    };
  };
}
