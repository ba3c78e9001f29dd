# Mistakes that people make, and a part of the sentence that each of them must give.
{ pkgs }:
let
  inherit (pkgs) lib;
  inStore = pkgs.writeText "secret" "not any more";
  proxy = settings: {
    services.care-federation.proxy = {
      enable = true;
      settings = lib.recursiveUpdate {
        policy.members = [ "vvt" ];
        servers.vvt = {
          upstream = "http://127.0.0.1:8008";
          certificate = "/etc/secrets/vvt.pem";
          key = "/etc/secrets/vvt.key";
        };
      } settings;
    };
  };
  homeserver = settings: {
    services.care-federation.homeserver = {
      enable = true;
      name = "vvt";
    }
    // settings;
  };
  # A bridge beside vvt's homeserver; `settings` are those of the bridge.
  bridge = settings: {
    services.care-federation = {
      homeserver = {
        enable = true;
        name = "vvt";
      };
      bridge = {
        enable = true;
      }
      // settings;
    };
  };
  network = settings: {
    services.care-federation.network = {
      enable = true;
    }
    // settings;
  };
  addresses = {
    gateway = "10.0.0.2";
    apotheek = "10.0.0.3";
    huisarts = "10.0.0.4";
    vvt = "10.0.0.5";
  };
in
{
  key-in-store = {
    settings = proxy { servers.vvt.key = "${inStore}"; };
    says = "servers.\"vvt\".key is in the Nix store";
  };
  certificate-without-key = {
    settings = proxy { servers.vvt.key = null; };
    says = "has a certificate without its key. Write both.";
  };
  two-listeners-on-one-address = {
    settings = proxy { listen.admin = [ "127.0.0.1:3128" ]; };
    says = "127.0.0.1:3128 (services.care-federation.proxy.settings.listen.admin) and 127.0.0.1:3128 (services.care-federation.proxy.settings.listen.egress)";
  };
  listener-behind-a-wildcard = {
    settings = proxy { listen.admin = [ "127.0.0.1:8448" ]; };
    says = "127.0.0.1:8448 (services.care-federation.proxy.settings.listen.admin) and [::]:8448 (services.care-federation.proxy.settings.listen.tls)";
  };
  homeserver-on-the-proxy-port = {
    settings = lib.recursiveUpdate (homeserver { }) (proxy {
      listen.plain = [ "127.0.0.1:8008" ];
    });
    says = "127.0.0.1:8008 (services.care-federation.homeserver.port) and 127.0.0.1:8008 (services.care-federation.proxy.settings.listen.plain)";
  };
  two-elements-on-one-port = {
    settings = lib.recursiveUpdate (proxy { }) {
      services.care-federation.element = {
        huisarts = { };
        vvt = { };
      };
    };
    says = "[::]:8003 (services.care-federation.proxy.settings.static_sites.element-huisarts.listen) and [::]:8003";
  };
  enrolment-on-the-proxy-port = {
    settings = lib.recursiveUpdate (proxy { }) {
      services.care-federation.ca = {
        enable = true;
        names = [ "vvt" ];
        est = {
          enable = true;
          listen = [ "[::]:8448" ];
        };
      };
    };
    says = "[::]:8448 (services.care-federation.ca.est.listen) and [::]:8448";
  };
  no-certificate = {
    settings = proxy {
      servers.vvt.certificate = null;
      servers.vvt.key = null;
    };
    says = "listens for TLS, but no server has a certificate";
  };
  own-server-no-member = {
    settings = proxy { policy.members = [ "huisarts" ]; };
    says = "policy.members does not name vvt";
  };
  everybody-may-federate = {
    settings = proxy { policy.members = null; };
    says = "every Matrix server in the world may federate";
  };
  nothing-to-serve = {
    settings.services.care-federation.proxy = {
      enable = true;
      settings.listen.tls = [ ];
    };
    says = "has nothing to serve";
  };
  certificates-of-no-ca = {
    settings = lib.recursiveUpdate (proxy { }) {
      services.care-federation.proxy.certificates = "ca";
    };
    says = "but this host has no CA";
  };

  ca-for-nothing = {
    settings.services.care-federation.ca.enable = true;
    says = "ca.names is empty";
  };
  certificate-outside-the-network = {
    settings.services.care-federation.ca = {
      enable = true;
      names = [ "vvt" ];
      certificates."evil.example" = { };
    };
    says = "certificates.\"evil.example\" is for a name that the CA may not certify";
  };

  ca-and-client = {
    settings.services.care-federation.ca = {
      enable = true;
      names = [ "vvt" ];
      client.enable = true;
    };
    says = "cannot both have the CA and be a client of another";
  };
  client-of-no-server = {
    settings.services.care-federation.ca.client.enable = true;
    says = "Write the enrolment server";
  };
  client-without-trust = {
    settings.services.care-federation.ca.client = {
      enable = true;
      server = "https://ca:8449";
    };
    says = "does not say which CA to trust";
  };
  client-without-token = {
    settings.services.care-federation.ca = {
      client.enable = true;
      certificates.vvt = { };
    };
    says = "Make a token there with `federation-ca token vvt`";
  };
  proxy-whose-ca-does-not-certify-it = {
    settings = {
      services.care-federation = {
        ca = {
          enable = true;
          names = [ "huisarts" ];
        };
        proxy = {
          enable = true;
          settings = {
            policy.members = [ "vvt" ];
            servers.vvt.upstream = "http://127.0.0.1:8008";
          };
        };
      };
    };
    says = "certificates.\"vvt\" is for a name that the CA may not certify";
  };
  token-in-store = {
    settings.services.care-federation.ca = {
      client.enable = true;
      certificates.vvt.tokenFile = inStore;
    };
    says = "certificates.\"vvt\".tokenFile is ${inStore}: that is in the Nix store";
  };

  registration-secret-in-store = {
    settings = homeserver { registrationSecretFile = inStore; };
    says = "registrationSecretFile is ${inStore}: that is in the Nix store";
  };
  signing-key-in-store = {
    settings = homeserver { signingKeyFile = inStore; };
    says = "signingKeyFile is ${inStore}: that is in the Nix store";
  };
  macaroon-secret-in-store = {
    settings = homeserver { macaroonSecretFile = inStore; };
    says = "macaroonSecretFile is ${inStore}: that is in the Nix store";
  };
  password-in-store = {
    settings = homeserver { admin.passwordFile = inStore; };
    says = "admin.passwordFile is ${inStore}: that is in the Nix store";
  };
  registration-in-store = {
    settings = homeserver { applicationServices.fhir-bridge = inStore; };
    says = "applicationServices.\"fhir-bridge\" is ${inStore}: that is in the Nix store";
  };
  workers-on-sqlite = {
    settings = homeserver {
      database = "sqlite";
      workers = 1;
    };
    says = "database = \"postgresql\";";
  };
  egress-and-networks = {
    settings = homeserver {
      egress = "http://127.0.0.1:3128";
      allowedNetworks = [ "10.0.0.0/8" ];
    };
    says = "Remove allowedNetworks";
  };
  wildcard-and-address = {
    settings = homeserver {
      listenAddresses = [
        "0.0.0.0"
        "127.0.0.1"
      ];
    };
    says = "has a wildcard and other addresses";
  };

  element-without-proxy = {
    settings.services.care-federation.element.vvt = { };
    says = "Write services.care-federation.proxy.enable = true;";
  };

  bridge-without-homeserver = {
    settings.services.care-federation.bridge.enable = true;
    says = "is not on this host, so that its registration cannot be handed over";
  };
  bridge-of-another-homeserver = {
    settings = bridge { settings.homeserver.server_name = "huisarts"; };
    says = "the homeserver \"huisarts\" is not on this host";
  };
  homeserver-that-does-not-list-it = {
    settings = lib.recursiveUpdate (bridge { }) {
      services.care-federation.homeserver.applicationServices = lib.mkForce { };
    };
    says = "Write services.care-federation.homeserver.applicationServices.fhir-bridge = \"/var/lib/fhir-bridge/registration.yaml\";";
  };
  bridge-open-to-everybody = {
    settings = bridge { settings.listen = [ "[::]:1234" ]; };
    says = "the FHIR endpoint would be open to everybody who reaches [::]:1234";
  };
  bridge-on-the-homeserver-port = {
    settings = bridge { settings.listen = [ "127.0.0.1:8008" ]; };
    says = "127.0.0.1:8008 (services.care-federation.bridge.settings.listen) and 127.0.0.1:8008 (services.care-federation.homeserver.port)";
  };
  bridge-for-the-homeserver-on-one-port-twice = {
    settings = bridge {
      settings.homeserver_listen = [ "0.0.0.0:1234" ];
    };
    says = "0.0.0.0:1234 (services.care-federation.bridge.settings.homeserver_listen) and 127.0.0.1:1234 (services.care-federation.bridge.settings.listen)";
  };
  bridge-on-one-port-twice = {
    settings = bridge { settings.admin = [ "127.0.0.1:1234" ]; };
    says = "127.0.0.1:1234 (services.care-federation.bridge.settings.admin) and 127.0.0.1:1234 (services.care-federation.bridge.settings.listen)";
  };
  bridge-on-the-proxy-port = {
    settings = lib.recursiveUpdate (proxy { }) {
      services.care-federation.bridge = {
        enable = true;
        registrationFile = "/etc/secrets/registration.yaml";
        settings.admin = [ "127.0.0.1:9448" ];
      };
    };
    says = "127.0.0.1:9448 (services.care-federation.bridge.settings.admin) and 127.0.0.1:9448 (services.care-federation.proxy.settings.listen.admin)";
  };
  fhir-credentials-for-nobody = {
    settings = bridge { fhirServer.tokenFile = "/etc/secrets/fhir-token"; };
    says = "there is no FHIR server elsewhere to show them to";
  };
  bridge-registration-in-store = {
    settings = bridge { registrationFile = inStore; };
    says = "bridge.registrationFile is ${inStore}: that is in the Nix store";
  };
  bridge-tokens-in-store = {
    settings = bridge { tokensFile = inStore; };
    says = "bridge.tokensFile is ${inStore}: that is in the Nix store";
  };
  bridge-tokens-in-store-by-setting = {
    settings = bridge { settings.fhir.tokens_file = "${inStore}"; };
    says = "settings.fhir.tokens_file is ${inStore}: that is in the Nix store";
  };
  bridge-on-no-postgresql = {
    settings = bridge {
      database = "postgresql";
      databaseCreateLocally = false;
    };
    says = "does not say which PostgreSQL server to use";
  };
  bridge-on-two-databases = {
    settings = bridge { settings.database.url = "postgresql://db.example.nl/bridge"; };
    says = "names a PostgreSQL server, but the database is \"sqlite\"";
  };
  bridge-on-two-servers = {
    settings = bridge {
      database = "postgresql";
      settings.database.url = "postgresql://db.example.nl/bridge";
    };
    says = "Write services.care-federation.bridge.databaseCreateLocally = false;";
  };
  bridge-database-password-in-store = {
    settings = bridge { databasePasswordFile = inStore; };
    says = "bridge.databasePasswordFile is ${inStore}: that is in the Nix store";
  };
  bridge-viewers-in-store = {
    settings = bridge { viewersFile = inStore; };
    says = "bridge.viewersFile is ${inStore}: that is in the Nix store";
  };
  bridge-registration-in-store-by-setting = {
    settings = bridge { settings.registration = "${inStore}"; };
    says = "settings.registration is ${inStore}: that is in the Nix store";
  };
  bridge-registration-by-setting = {
    settings = bridge { settings.registration = "/etc/secrets/registration.yaml"; };
    says = "the homeserver would not be given that file";
  };
  bridge-secret-twice = {
    settings = bridge {
      tokensFile = "/etc/secrets/fhir-clients.toml";
      settings.fhir.tokens_file = "/etc/secrets/other-clients.toml";
    };
    says = "settings.fhir.tokens_file and services.care-federation.bridge.tokensFile are both set";
  };
  bridge-password-for-nobody = {
    settings = bridge { databasePasswordFile = "/etc/secrets/fhir-bridge-database"; };
    says = "there is no PostgreSQL server to show it to";
  };
  hook-secret-in-store = {
    settings = bridge {
      fhirServer.hookSecretFile = inStore;
      settings.fhir.server = {
        base = "https://fhir.example.nl/r4";
        hook_url = "https://bridge.example.nl/fhir-hook";
      };
    };
    says = "fhirServer.hookSecretFile is ${inStore}: that is in the Nix store";
  };
  hook-secret-in-store-by-setting = {
    settings = bridge {
      settings.fhir.server = {
        base = "https://fhir.example.nl/r4";
        hook_url = "https://bridge.example.nl/fhir-hook";
        hook_secret_file = "${inStore}";
      };
    };
    says = "settings.fhir.server.hook_secret_file is ${inStore}: that is in the Nix store";
  };
  hook-secret-for-no-hook = {
    settings = bridge {
      fhirServer.hookSecretFile = "/etc/secrets/fhir-hook-secret";
      settings.fhir.server.base = "https://fhir.example.nl/r4";
    };
    says = "Write services.care-federation.bridge.settings.fhir.server.hook_url";
  };
  directory-credentials-for-nobody = {
    settings = bridge { directory.tokenFile = "/etc/secrets/directory-token"; };
    says = "there is no care directory elsewhere to show them to";
  };
  directory-token-in-store = {
    settings = bridge {
      directory.tokenFile = inStore;
      settings.directory.base = "https://directory.example.nl/fhir";
    };
    says = "bridge.directory.tokenFile is ${inStore}: that is in the Nix store";
  };
  key-without-certificate = {
    settings = proxy { servers.vvt.certificate = null; };
    says = "has a key without its certificate. Write both.";
  };
  fhir-token-in-store = {
    settings = bridge {
      fhirServer.tokenFile = inStore;
      settings.fhir.server.base = "https://fhir.example.nl/r4";
    };
    says = "fhirServer.tokenFile is ${inStore}: that is in the Nix store";
  };

  which-host = {
    settings = network {
      layout = "gateway";
      interface = "eth1";
      inherit addresses;
    };
    says = "network.host is not set";
  };
  unknown-host = {
    settings = network {
      layout = "gateway";
      interface = "eth1";
      host = "ziekenhuis";
      inherit addresses;
    };
    says = "network.host is \"ziekenhuis\", which is no organisation of the network";
  };
  missing-address = {
    settings = network {
      layout = "gateway";
      interface = "eth1";
      host = "gateway";
      addresses = removeAttrs addresses [ "vvt" ];
    };
    says = "has no address for vvt";
  };
  no-interface = {
    settings = network {
      layout = "gateway";
      host = "gateway";
      inherit addresses;
    };
    says = "network.interface is not set";
  };
  one-port-twice = {
    settings = network {
      declaration = lib.recursiveUpdate (lib.importTOML ../../nix/network.toml) {
        organisations.vvt.client_port = 8008;
      };
    };
    says = "gives the port 8008 to two services";
  };
  bridge-on-the-client-port = {
    settings = network {
      declaration = lib.recursiveUpdate (lib.importTOML ../../nix/network.toml) {
        organisations.vvt.bridge_admin_port = 8003;
      };
    };
    says = "gives the port 8003 to two services";
  };
  bridge-on-the-port-of-its-homeserver = {
    settings = network {
      layout = "gateway";
      host = "vvt";
      interface = "eth1";
      inherit addresses;
      declaration = lib.recursiveUpdate (lib.importTOML ../../nix/network.toml) {
        organisations.vvt.bridge_port = 8038;
      };
    };
    says = "gives the port 8038 to two services";
  };
  two-bridges-on-one-host = {
    settings = network {
      declaration = lib.recursiveUpdate (lib.importTOML ../../nix/network.toml) {
        organisations.huisarts.bridge_port = 2234;
      };
    };
    says = "gives huisarts and vvt a bridge each, but on one host there can be one";
  };
  long-container-name = {
    settings = network {
      declaration = lib.recursiveUpdate (lib.importTOML ../../nix/network.toml) {
        organisations.verpleeghuis = {
          display_name = "Verpleeghuis";
          homeserver_port = 8048;
        };
      };
    };
    says = "the name of a container has 11 characters at most";
  };
}
