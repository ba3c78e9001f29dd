# Settings that must evaluate without a complaint.
{ pkgs }:
let
  inherit (pkgs) lib;
  addresses = {
    gateway = "10.0.0.2";
    apotheek = "10.0.0.3";
    huisarts = "10.0.0.4";
    vvt = "10.0.0.5";
  };
  host = name: {
    services.care-federation.network = {
      enable = true;
      layout = "gateway";
      host = name;
      inherit addresses;
      interface = "eth1";
    };
  };
in
{
  nothing = { };
  one-host.services.care-federation.network.enable = true;
  gateway = host "gateway";
  homeserver = host "vvt";

  a-fourth-organisation.services.care-federation.network = {
    enable = true;
    declaration = lib.recursiveUpdate (lib.importTOML ../../nix/network.toml) {
      organisations.ziekenhuis = {
        display_name = "Ziekenhuis";
        homeserver_port = 8048;
      };
    };
  };

  homeserver-alone.services.care-federation.homeserver = {
    enable = true;
    name = "vvt";
    caCertificate = "/etc/care-federation/ca.pem";
  };
  homeserver-with-everything.services.care-federation.homeserver = {
    enable = true;
    name = "vvt";
    workers = 3;
    backup.enable = true;
    registrationSecretFile = "/etc/secrets/registration";
    signingKeyFile = "/etc/secrets/signing-key";
    admin.passwordFile = "/etc/secrets/admin";
    applicationServices.fhir-bridge = "/var/lib/fhir-bridge/registration.yaml";
    egress = "http://127.0.0.1:3128";
  };

  proxy-with-files.services.care-federation.proxy = {
    enable = true;
    settings = {
      policy.members = [ "vvt" ];
      servers.vvt = {
        upstream = "http://127.0.0.1:8008";
        certificate = "/etc/secrets/vvt.pem";
        key = "/etc/secrets/vvt.key";
      };
    };
  };
  proxy-with-acme = {
    services.care-federation.proxy = {
      enable = true;
      certificates = "acme";
      settings = {
        policy.members = [ "vvt.example" ];
        servers."vvt.example".upstream = "unix:/run/matrix-synapse/main.sock";
      };
    };
    security.acme = {
      acceptTerms = true;
      defaults.email = "beheer@vvt.example";
      certs."vvt.example".webroot = "/var/lib/acme/challenges";
    };
  };

  listeners-of-two-families.services.care-federation = {
    homeserver = {
      enable = true;
      name = "vvt";
      listenAddresses = [
        "10.0.0.5"
        "::1"
      ];
    };
    bridge = {
      enable = true;
      registrationFile = "/etc/secrets/registration.yaml";
      tokensFile = "/etc/secrets/fhir-clients.toml";
      settings.listen = [ "0.0.0.0:1234" ];
      settings.homeserver_listen = [ "[::1]:1234" ];
    };
  };
  bridge-beside-its-homeserver.services.care-federation = {
    homeserver = {
      enable = true;
      name = "vvt";
    };
    bridge.enable = true;
  };
  bridge-with-workers.services.care-federation = {
    homeserver = {
      enable = true;
      name = "vvt";
      workers = 2;
    };
    bridge = {
      enable = true;
      openFirewall = true;
      tokensFile = "/etc/secrets/fhir-clients.toml";
      viewersFile = "/etc/secrets/bridge-viewers.toml";
      settings.listen = [ "[::]:1234" ];
    };
  };
  bridges-on-two-hosts = lib.recursiveUpdate (host "huisarts") {
    services.care-federation.network.declaration =
      lib.recursiveUpdate (lib.importTOML ../../nix/network.toml)
        {
          organisations.huisarts.bridge_port = 1234;
        };
  };
  bridge-on-postgresql.services.care-federation = {
    homeserver = {
      enable = true;
      name = "vvt";
    };
    bridge = {
      enable = true;
      database = "postgresql";
    };
  };
  bridge-on-postgresql-elsewhere.services.care-federation = {
    homeserver = {
      enable = true;
      name = "vvt";
      database = "sqlite";
    };
    bridge = {
      enable = true;
      database = "postgresql";
      databaseCreateLocally = false;
      databasePasswordFile = "/etc/secrets/fhir-bridge-database";
      settings.database.url = "postgresql://fhir-bridge@db.example.nl/fhir-bridge";
    };
  };
  bridge-for-a-container.services.care-federation.bridge = {
    enable = true;
    registrationUnits = [ "container@vvt.service" ];
    settings = {
      homeserver_listen = [ "10.0.0.5:1234" ];
      homeserver = {
        url = "http://10.0.0.6:8008";
        server_name = "vvt";
      };
    };
  };
  bridge-between-others.services.care-federation.bridge = {
    enable = true;
    registrationFile = "/etc/secrets/registration.yaml";
    fhirServer = {
      certificateFile = "/etc/secrets/fhir-client.pem";
      keyFile = "/etc/secrets/fhir-smart.pem";
      hookSecretFile = "/etc/secrets/fhir-hook-secret";
    };
    directory = {
      tokenFile = "/etc/secrets/directory-token";
      certificateFile = "/etc/secrets/directory-client.pem";
    };
    settings = {
      url = "http://10.0.0.5:1234";
      listen = [ "10.0.0.5:1234" ];
      homeserver = {
        url = "https://matrix.vvt.example";
        server_name = "vvt.example";
      };
      fhir.server = {
        base = "https://fhir.example.nl/r4";
        hook_url = "https://bridge.vvt.example/fhir-hook";
        smart.client_id = "fhir-bridge";
      };
      directory.base = "https://directory.example.nl/fhir";
    };
  };
}
