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
  inherit (config.services.care-federation) ca;
  inherit (import ../lib/addresses.nix { inherit lib; }) isPrivate portOf;

  # Every listener by the name of its socket unit.
  listeners =
    lib.filterAttrs (_: addresses: addresses != [ ]) settings.listen
    // lib.mapAttrs' (name: site: lib.nameValuePair "site-${name}" site.listen) settings.static_sites;

  # The program gets its sockets from systemd, so that it needs no privileges and a restart loses no connection.
  written = lib.recursiveUpdate settings {
    listen = lib.mapAttrs (
      name: addresses: lib.optional (addresses != [ ]) "systemd:${name}"
    ) settings.listen;
    static_sites = lib.mapAttrs (name: _: {
      listen = [ "systemd:site-${name}" ];
    }) settings.static_sites;
  };
  file = import ../lib/settings.nix { inherit lib pkgs; } {
    inherit (cfg) package;
    settings = written;
    check = file: "federation-proxy check-config --settings-only --config ${file}";
  };

  withTls = lib.filterAttrs (_: server: server.certificate != null) settings.servers;
in
{
  imports = [
    ../federation-ca
    ../lib/listeners.nix
    ./options.nix
  ];

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
        assertion = cfg.certificates != "ca" || ca.enable || ca.client.enable;
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

    services.care-federation.listeners =
      lib.mapAttrs' (name: lib.nameValuePair "proxy.settings.listen.${name}") settings.listen
      // lib.mapAttrs' (
        name: site: lib.nameValuePair "proxy.settings.static_sites.${name}.listen" site.listen
      ) settings.static_sites;

    # Where a server takes its pair from the CA's directory, the CA is told of it.
    services.care-federation.ca.certificates = lib.mkIf (cfg.certificates == "ca") (
      lib.mapAttrs (_: _: { group = lib.mkDefault "federation-proxy"; }) (
        lib.filterAttrs (
          name: server: server.key == "${ca.directory}/certs/${name}/key.pem"
        ) settings.servers
      )
    );

    users = import ../lib/user.nix "federation-proxy";

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
          lib.optional (cfg.certificates == "ca" && ca.enable) "federation-ca.service"
          ++ lib.optional (cfg.certificates == "ca" && ca.client.enable) "federation-ca-client.service"
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
        serviceConfig =
          import ../lib/hardening.nix
          // import ../lib/network.nix
          // {
            Type = "notify-reload";
            ExecStart = "${lib.getExe cfg.package} run --config ${file}";
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
            SocketBindDeny = "any";
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
