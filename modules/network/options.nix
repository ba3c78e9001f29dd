# What can be said of a network.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.care-federation.network;
  inherit (lib) mkOption types;

  organisation = types.submodule {
    options = {
      display_name = mkOption {
        type = types.str;
        description = "The name that people see.";
      };
      homeserver_port = mkOption {
        type = types.port;
        description = "Where its homeserver listens, plain HTTP, behind the proxy.";
      };
      client_port = mkOption {
        type = types.nullOr types.port;
        default = null;
        description = "Where its Element Web is served, if it has one.";
      };
      bridge_port = mkOption {
        type = types.nullOr types.port;
        default = null;
        description = ''
          Where its FHIR bridge listens, if it has one: on loopback, on the host of its homeserver. In the layout
          `one-host` one organisation can have a bridge.
        '';
      };
      bridge_admin_port = mkOption {
        type = types.nullOr types.port;
        default = null;
        example = 1235;
        description = "Where health, metrics and web page of that bridge are, on loopback; by default the port after its own.";
      };
    };
  };
  port =
    description:
    mkOption {
      type = types.port;
      inherit description;
    };
in
{
  options.services.care-federation.network = {
    enable = lib.mkEnableOption "a network of organisations that federate";

    declaration = mkOption {
      default = lib.importTOML ../../nix/network.toml;
      defaultText = lib.literalExpression "lib.importTOML ./nix/network.toml";
      example = lib.literalExpression "lib.importTOML ./network.toml";
      description = ''
        The organisations and their ports, in the format of {file}`nix/network.toml`, which the programs read too.
      '';
      type = types.submodule {
        options = {
          proxy = {
            federation_port = port "TLS, by server name: federation and clients.";
            discovery_port = port "TLS, where other homeservers look for `.well-known/matrix/server`.";
            client_port = port "Plain HTTP by `Host`, for browsers on this machine.";
            egress_port = port "HTTP CONNECT for the homeservers' own calls.";
          };
          organisations = mkOption {
            type = types.attrsOf organisation;
            description = "The organisations by server name.";
          };
        };
      };
    };

    layout = mkOption {
      type = types.enum [
        "one-host"
        "gateway"
      ];
      default = "one-host";
      example = "gateway";
      description = ''
        How the network lies over hosts:

        - `one-host`: all of it on this host, each organisation's homeserver in a NixOS container.
        - `gateway`: one host has the CA, the proxy and the clients; each homeserver is a host of its own behind it, on
          a network that nobody else is on.

        Organisations that trust each other less have a host each with all of it: see the template `organisation`.
      '';
    };

    host = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "vvt";
      description = "In the layout `gateway`: which host this is, `gateway` or an organisation's server name.";
    };

    addresses = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        gateway = "10.0.0.2";
        apotheek = "10.0.0.3";
        huisarts = "10.0.0.4";
        vvt = "10.0.0.5";
      };
      description = "In the layout `gateway`: the address of each host in the private network between them.";
    };

    subnet = mkOption {
      type = types.strMatching "[0-9]+\\.[0-9]+\\.[0-9]+";
      default = "10.231.83";
      description = "In the layout `one-host`: the first three numbers of the containers' private network.";
    };

    interface = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "eth1";
      description = ''
        In the layout `gateway`: the network interface on which the hosts reach each other. The ports between gateway
        and homeservers are opened there and nowhere else.
      '';
    };

    caCertificate = mkOption {
      type = types.path;
      default =
        if cfg.layout == "gateway" && cfg.host != "gateway" then
          "/etc/care-federation/ca.pem"
        else
          "/var/lib/federation-ca/ca.pem";
      defaultText = lib.literalMD ''
        {file}`/var/lib/federation-ca/ca.pem`; on a homeserver's host {file}`/etc/care-federation/ca.pem`
      '';
      description = ''
        Where the homeservers find the CA's certificate. In the layout `gateway` copy it there from
        {file}`/var/lib/federation-ca/ca.pem` on the gateway; it is public, but it must be the right one.
      '';
    };

    trial = mkOption {
      type = types.bool;
      default = false;
      description = "Settings for a trial or a test, as in {option}`services.care-federation.homeserver.trial`.";
    };

    containerModules = mkOption {
      internal = true;
      readOnly = true;
      type = types.attrsOf types.deferredModule;
      description = "In the layout `one-host`: the configuration of each organisation's container.";
    };

    homeservers = {
      database = mkOption {
        type = types.enum [
          "sqlite"
          "postgresql"
        ];
        default = "postgresql";
        description = "As in {option}`services.care-federation.homeserver.database`.";
      };
      workers = mkOption {
        type = types.ints.unsigned;
        default = 0;
        description = "As in {option}`services.care-federation.homeserver.workers`.";
      };
    };
  };
}
