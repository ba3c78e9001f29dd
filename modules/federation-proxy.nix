# federation-proxy: TLS in front of the homeservers, their egress, and the policy of who may federate.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.proxy;
  inherit (cfg) settings;
  ca = config.services.care-federation.ca or { enable = false; };
  programs = import ./lib/programs.nix pkgs;
  toml = pkgs.formats.toml { };
  inherit (lib) mkOption types literalExpression;

  addresses =
    default: example: description:
    mkOption {
      type = types.listOf types.str;
      inherit default example description;
    };

  inherit (import ./lib/addresses.nix { inherit lib; }) isPrivate portOf;

  # Every listener by the name of its socket unit.
  listeners =
    lib.filterAttrs (_: addresses: addresses != [ ]) settings.listen
    // lib.mapAttrs' (name: site: lib.nameValuePair "site-${name}" site.listen) settings.static_sites;
  everyAddress = lib.concatLists (lib.attrValues listeners);
  # An address on which two listeners wait; the same port on two addresses is fine.
  taken = lib.attrNames (
    lib.filterAttrs (_: same: lib.length same > 1) (lib.groupBy lib.id everyAddress)
  );

  # The program gets its sockets from systemd, so that it needs no privileges and a restart loses no connection.
  written = lib.recursiveUpdate settings {
    listen = lib.mapAttrs (
      name: addresses: lib.optional (addresses != [ ]) "systemd:${name}"
    ) settings.listen;
    static_sites = lib.mapAttrs (name: _: {
      listen = [ "systemd:site-${name}" ];
    }) settings.static_sites;
  };
  withoutNulls = lib.filterAttrsRecursive (_: value: value != null);
  unchecked = toml.generate "federation-proxy-unchecked.toml" (withoutNulls written);
  checked = pkgs.runCommandLocal "federation-proxy.toml" { nativeBuildInputs = [ cfg.package ]; } ''
    federation-proxy check-config --settings-only --config ${unchecked}
    cp ${unchecked} $out
  '';
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;

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

  withTls = lib.filterAttrs (_: server: server.certificate != null) settings.servers;
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
      default = if ca.enable or false || ca.client.enable or false then "ca" else "files";
      defaultText = lib.literalMD "`\"ca\"` where this host has or uses a CA of the network, else `\"files\"`";
      description = ''
        Where the servers' certificates come from: `ca`, the network's own CA
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
            plain =
              addresses
                [
                  "127.0.0.1:8008"
                  "[::1]:8008"
                ]
                [ ]
                "Plain HTTP by `Host`, for browsers on this machine.";
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

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = settings.servers != { } || settings.static_sites != { };
        message = ''
          services.care-federation.proxy has nothing to serve.
          Write services.care-federation.proxy.settings.servers.NAME.upstream = "http://127.0.0.1:8008";
        '';
      }
      {
        assertion = settings.listen.tls == [ ] || withTls != { };
        message = ''
          services.care-federation.proxy listens for TLS, but no server has a certificate.
          Write services.care-federation.proxy.certificates = "ca"; or "acme"; or name the files in
          services.care-federation.proxy.settings.servers.NAME.certificate and .key.
        '';
      }
      {
        assertion = taken == [ ];
        message = ''
          services.care-federation.proxy: two listeners wait on ${lib.concatStringsSep " and on " taken}.
          Give one of them another port in services.care-federation.proxy.settings.listen or static_sites.
        '';
      }
      {
        assertion = cfg.certificates != "ca" || ca.enable or false || ca.client.enable or false;
        message = ''
          services.care-federation.proxy.certificates is "ca", but this host has no CA.
          Write services.care-federation.ca.enable = true; for a CA on this host, or
          services.care-federation.ca.client.enable = true; for certificates from a CA on another.
        '';
      }
      {
        assertion =
          settings.policy.members == null
          || lib.all (name: lib.elem name settings.policy.members) (lib.attrNames settings.servers)
          || settings.policy.members_file != null;
        message = ''
          services.care-federation.proxy.settings.policy.members does not name ${
            lib.concatStringsSep ", " (
              lib.subtractLists (lib.defaultTo [ ] settings.policy.members) (lib.attrNames settings.servers)
            )
          }, whose homeserver is behind this proxy: the other members' answers would be refused.
          Add the name to the members.
        '';
      }
    ]
    ++ lib.concatLists (
      lib.mapAttrsToList (name: server: [
        {
          assertion = (server.certificate == null) == (server.key == null);
          message = ''
            services.care-federation.proxy.settings.servers."${name}" has ${
              if server.key == null then "a certificate without its key" else "a key without its certificate"
            }. Write both.
          '';
        }
        {
          assertion = server.key == null || !(lib.hasPrefix builtins.storeDir server.key);
          message = ''
            services.care-federation.proxy.settings.servers."${name}".key is in the Nix store, which everybody can read.
            Put the key on the machine itself and write its path as a text: "/etc/secrets/${name}.key"
          '';
        }
      ]) settings.servers
    );

    warnings = lib.optional (settings.policy.members == null && settings.policy.members_file == null) ''
      services.care-federation.proxy has no list of members: every Matrix server in the world may federate with the
      servers behind it. Write services.care-federation.proxy.settings.policy.members = [ ... ];
    '';

    users.users.federation-proxy = {
      isSystemUser = true;
      group = "federation-proxy";
      description = "federation-proxy";
    };
    users.groups.federation-proxy = { };

    systemd.sockets = lib.mapAttrs' (
      name: addresses:
      lib.nameValuePair "federation-proxy-${name}" {
        description = "federation-proxy: ${name}";
        wantedBy = [ "sockets.target" ];
        listenStreams = map (lib.removePrefix "unix:") addresses;
        socketConfig = {
          Service = "federation-proxy.service";
          FileDescriptorName = name;
          BindIPv6Only = "both";
          # Sockets come before the network, so that an address may not be there yet.
          FreeBind = true;
          Backlog = 4096;
          NoDelay = true;
          SocketUser = "federation-proxy";
          SocketGroup = "federation-proxy";
          SocketMode = "0660";
        };
      }
    ) listeners;

    systemd.services.federation-proxy =
      let
        certificateUnits =
          lib.optional (cfg.certificates == "ca" && ca.enable or false) "federation-ca.service"
          ++ lib.optional (
            cfg.certificates == "ca" && ca.client.enable or false
          ) "federation-ca-client.service"
          ++ lib.optionals (cfg.certificates == "acme") (
            map (name: "acme-${name}.service") (lib.attrNames settings.servers)
          );
      in
      {
        description = "TLS proxy, egress and policy of the care federation";
        documentation = [ "man:federation-proxy(1)" ];
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ] ++ certificateUnits;
        after = [ "network-online.target" ] ++ certificateUnits;
        serviceConfig = import ./lib/hardening.nix // {
          Type = "notify-reload";
          ExecStart = "${lib.getExe cfg.package} run --config ${if canRun then checked else unchecked}";
          User = "federation-proxy";
          Group = "federation-proxy";
          Restart = "always";
          RestartSec = "1s";
          WatchdogSec = "30s";
          # The open requests may finish (limits.drain_time) before the rest is cut.
          TimeoutStopSec = "45s";
          LimitNOFILE = 131072;
          TasksMax = 512;
          MemoryMax = "2G";

          # It talks to homeservers and to other members; its own ports come from the socket units.
          PrivateNetwork = false;
          IPAddressDeny = "";
          SocketBindDeny = "any";
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            "AF_UNIX"
          ];
        };
        # Keep trying: the certificates may come later than the program.
        unitConfig.StartLimitIntervalSec = 0;
      };

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall (
      lib.unique (
        map portOf (
          lib.filter (address: !isPrivate address) (
            settings.listen.tls ++ lib.concatMap (site: site.listen) (lib.attrValues settings.static_sites)
          )
        )
      )
    );

    security.acme.certs = lib.mkIf (cfg.certificates == "acme") (
      lib.mapAttrs (_: _: {
        group = "federation-proxy";
        reloadServices = [ "federation-proxy.service" ];
      }) settings.servers
    );
  };
}
