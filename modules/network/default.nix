# A whole network from one declaration (nix/network.toml), on one host or spread over several.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.care-federation.network;
  inherit (cfg) declaration addresses;
  inherit (declaration) organisations;

  names = lib.attrNames organisations;
  everyHost = [ "gateway" ] ++ names;
  bridge = "care0";
  # The host in the containers' network, and the containers after it, in the order of their names.
  hostAddress = "${cfg.subnet}.1";
  containerAddresses = lib.listToAttrs (
    lib.imap0 (index: name: lib.nameValuePair name "${cfg.subnet}.${toString (10 + index)}") names
  );

  oneHost = cfg.layout == "one-host";
  isGateway = oneHost || cfg.host == "gateway";
  isHomeserver = cfg.layout == "gateway" && cfg.host != "gateway";
  # An address that is missing is an assertion below, not an error here.
  addressOf =
    if oneHost then
      containerAddresses // { gateway = hostAddress; }
    else
      lib.genAttrs everyHost (host: addresses.${host} or "0.0.0.0");
  gatewayAddress = addressOf.gateway;

  url = host: port: "http://${host}:${toString port}";
  everywhere = port: "[::]:${toString port}";

  # === bridges ===

  withBridge = lib.filterAttrs (_: organisation: organisation.bridge_port != null) organisations;
  # The organisations whose bridge runs on this host: on one host all of them, else a homeserver's own.
  bridgesHere = lib.filterAttrs (name: _: oneHost || cfg.host == name) withBridge;
  adminPortOf =
    organisation: lib.defaultTo (organisation.bridge_port + 1) organisation.bridge_admin_port;
  bridgeOf = organisation: {
    enable = true;
    settings = {
      listen = [ "127.0.0.1:${toString organisation.bridge_port}" ];
      admin = [ "127.0.0.1:${toString (adminPortOf organisation)}" ];
    };
  };
  # On one host the bridge of this organisation is on the host itself, and its homeserver in a container.
  isBridged = name: oneHost && name == lib.head (lib.attrNames withBridge ++ [ null ]);
  inherit (config.services.care-federation.bridge) registration;

  # What a container adds to the homeserver in it.
  inContainer = name: {
    imports = [
      ../homeserver
      (homeserver name)
    ];
    services.care-federation.homeserver = {
      openFirewall = true;
      applicationServices = lib.mkIf (isBridged name) { fhir-bridge = registration; };
    };
  };

  # One organisation's homeserver, wherever it runs.
  homeserver = name: {
    services.care-federation.homeserver = {
      enable = true;
      inherit name;
      inherit (cfg) trial;
      inherit (cfg.homeservers) database workers;
      listenAddresses = [ addressOf.${name} ];
      port = organisations.${name}.homeserver_port;
      baseUrl = "https://${name}:${toString declaration.proxy.federation_port}/";
      egress = url gatewayAddress declaration.proxy.egress_port;
      caCertificate = cfg.caCertificate;
    };
    networking.hosts.${gatewayAddress} = names;
  };

  container = name: {
    autoStart = true;
    privateNetwork = true;
    hostBridge = bridge;
    localAddress = "${containerAddresses.${name}}/24";
    bindMounts.${cfg.caCertificate} = {
      hostPath = config.services.care-federation.ca.certificate;
      isReadOnly = true;
    };
    # The file alone: what else the bridge keeps is none of the container's business.
    bindMounts.${registration} = lib.mkIf (isBridged name) {
      hostPath = registration;
      isReadOnly = true;
    };
    config = {
      imports = [ cfg.containerModules.${name} ];
      system.stateVersion = lib.mkDefault config.system.stateVersion;
    };
  };

  # What listens on this host, as declared.
  usedPorts =
    lib.optionals isGateway (lib.attrValues declaration.proxy)
    ++ lib.concatMap (
      organisation: lib.optional (isGateway && organisation.client_port != null) organisation.client_port
    ) (lib.attrValues organisations)
    ++ lib.optional (
      isHomeserver && organisations ? ${toString cfg.host}
    ) organisations.${cfg.host}.homeserver_port
    ++ lib.concatMap (organisation: [
      organisation.bridge_port
      (adminPortOf organisation)
    ]) (lib.attrValues bridgesHere);
  repeated = lib.attrNames (
    lib.filterAttrs (_: same: lib.length same > 1) (lib.groupBy toString usedPorts)
  );
in
{
  imports = [
    ../element.nix
    ../federation-ca
    ../federation-proxy
    ../fhir-bridge
    ../homeserver
    ./options.nix
  ];

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        services.care-federation.network.containerModules = lib.optionalAttrs oneHost (
          lib.genAttrs names inContainer
        );

        assertions = [
          {
            assertion = oneHost || cfg.host == "gateway" || lib.elem cfg.host names;
            message = ''
              services.care-federation.network.host is ${
                if cfg.host == null then "not set" else ''"${cfg.host}", which is no organisation of the network''
              }.
              Write services.care-federation.network.host = "gateway"; or one of ${lib.concatStringsSep ", " names}.
            '';
          }
          {
            assertion = oneHost || lib.all (name: addresses ? ${name}) everyHost;
            message = ''
              services.care-federation.network.addresses has no address for ${
                lib.concatStringsSep ", " (lib.filter (name: !addresses ? ${name}) everyHost)
              }.
              Write the address of each host: services.care-federation.network.addresses.NAME = "10.0.0.2";
            '';
          }
          {
            assertion = oneHost || cfg.interface != null;
            message = ''
              services.care-federation.network.interface is not set, so that the hosts could not reach each other.
              Write the network interface between them: services.care-federation.network.interface = "eth1";
            '';
          }
          {
            assertion = repeated == [ ];
            message = ''
              services.care-federation.network.declaration gives the port ${lib.concatStringsSep ", " repeated} to two services.
              Give one of them another port in the declaration.
            '';
          }
          {
            assertion = !oneHost || lib.length (lib.attrNames withBridge) <= 1;
            message = ''
              services.care-federation.network.declaration gives ${lib.concatStringsSep " and " (lib.attrNames withBridge)} a bridge each, but on one host there can be one.
              Take bridge_port away from all but one of them, or use the layout "gateway".
            '';
          }
          {
            assertion = lib.all (name: lib.stringLength name <= 11) names || !oneHost;
            message = ''
              services.care-federation.network.declaration names ${
                lib.concatStringsSep ", " (lib.filter (name: lib.stringLength name > 11) names)
              }: the name of a container has 11 characters at most.
              Use the layout "gateway" for an organisation with a longer name.
            '';
          }
        ];
      }

      # The gateway: CA, proxy and clients.
      (lib.mkIf isGateway {
        services.care-federation.ca = {
          enable = true;
          inherit names;
        };

        services.care-federation.proxy = {
          enable = true;
          certificates = "ca";
          openFirewall = true;
          settings = {
            listen = {
              tls = [
                (everywhere declaration.proxy.discovery_port)
                (everywhere declaration.proxy.federation_port)
              ];
              plain = [
                "127.0.0.1:${toString declaration.proxy.client_port}"
                "[::1]:${toString declaration.proxy.client_port}"
              ];
              egress = [ "${gatewayAddress}:${toString declaration.proxy.egress_port}" ];
            };
            policy.members = names;
            servers = lib.mapAttrs (name: organisation: {
              upstream = url addressOf.${name} organisation.homeserver_port;
              hosts = [ "${name}.localhost" ];
              federation = "${name}:${toString declaration.proxy.federation_port}";
              client = "https://${name}:${toString declaration.proxy.federation_port}";
            }) organisations;
            egress.targets = lib.listToAttrs (
              lib.concatMap
                (
                  port:
                  map (name: lib.nameValuePair "${name}:${toString port}" "${gatewayAddress}:${toString port}") names
                )
                [
                  declaration.proxy.discovery_port
                  declaration.proxy.federation_port
                ]
            );
          };
        };

        services.care-federation.element = lib.mapAttrs (name: organisation: {
          listen = [ (everywhere organisation.client_port) ];
          homeserver = url "${name}.localhost" declaration.proxy.client_port;
          title = organisation.display_name;
        }) (lib.filterAttrs (_: organisation: organisation.client_port != null) organisations);

        networking.hosts.${gatewayAddress} = names;
      })

      (lib.mkIf (cfg.layout == "gateway" && isGateway && cfg.interface != null) {
        networking.firewall.interfaces.${cfg.interface}.allowedTCPPorts = [
          declaration.proxy.egress_port
        ];
      })

      (lib.mkIf (isHomeserver && organisations ? ${toString cfg.host}) (
        lib.mkMerge [
          (homeserver cfg.host)
          {
            # Beside its homeserver, which gets the registration there.
            services.care-federation.bridge = lib.mkIf (bridgesHere != { }) (bridgeOf bridgesHere.${cfg.host});
            networking.firewall.interfaces = lib.mkIf (cfg.interface != null) {
              ${cfg.interface}.allowedTCPPorts = [ organisations.${cfg.host}.homeserver_port ];
            };
          }
        ]
      ))

      # One host: a bridge between it and a container for each organisation.
      (lib.mkIf oneHost {
        networking.bridges.${bridge}.interfaces = [ ];
        networking.interfaces.${bridge}.ipv4.addresses = [
          {
            address = hostAddress;
            prefixLength = 24;
          }
        ];
        networking.firewall.interfaces.${bridge}.allowedTCPPorts = [
          declaration.proxy.egress_port
        ]
        ++ map (name: organisations.${name}.bridge_port) (lib.filter isBridged names);

        containers = lib.genAttrs names container;

        services.care-federation.bridge = lib.mkMerge (
          map (
            name:
            let
              organisation = organisations.${name};
            in
            lib.mkMerge [
              (bridgeOf organisation)
              {
                settings = {
                  # The homeserver calls from its container. FHIR is on loopback alone.
                  homeserver_listen = [ "${hostAddress}:${toString organisation.bridge_port}" ];
                  homeserver = {
                    url = url addressOf.${name} organisation.homeserver_port;
                    server_name = name;
                  };
                };
                registrationUnits = [ "container@${name}.service" ];
              }
            ]
          ) (lib.filter isBridged names)
        );

        systemd.services = lib.listToAttrs (
          map (
            name:
            lib.nameValuePair "container@${name}" {
              wants = [ "federation-ca.service" ];
              after = [ "federation-ca.service" ];
            }
          ) names
        );
      })
    ]
  );
}
