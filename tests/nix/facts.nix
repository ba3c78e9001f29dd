# What must be true of evaluated systems, as sentences that are true or false. Here is what VM tests without nested
# containers cannot show: how the host and the containers of a whole network on one host fit together.
{ lib, evaluate }:
let
  host = evaluate { services.care-federation.network.enable = true; };
  inherit (host.services.care-federation) bridge;
  vvt = host.containers.vvt.config;
  address = host.containers.vvt.localAddress;
  registration = "/var/lib/fhir-bridge/registration.yaml";
  synapse = container: container.config.systemd.services.matrix-synapse.serviceConfig;
  credential = "appservice-fhir-bridge.yaml:${registration}";
  maker = host.systemd.services.fhir-bridge-registration;
in
{
  "one host: the bridge serves FHIR on loopback, and the homeserver alone on the containers' network" =
    bridge.settings.listen == [ "127.0.0.1:1234" ]
    && bridge.settings.admin == [ "127.0.0.1:1235" ]
    && bridge.settings.homeserver_listen == [ "10.231.83.1:1234" ];

  "one host: the registration tells the homeserver where it reaches the bridge" =
    bridge.settings.url == "http://10.231.83.1:1234";

  "one host: the bridge reaches the homeserver in its container" =
    bridge.settings.homeserver.url == "http://${lib.removeSuffix "/24" address}:8038"
    && bridge.settings.homeserver.server_name == vvt.services.matrix-synapse.settings.server_name
    && lib.elem 8038 vvt.networking.firewall.allowedTCPPorts;

  "one host: the bridge's port is open to the containers and to nobody else" =
    lib.elem 1234 host.networking.firewall.interfaces.care0.allowedTCPPorts
    && !lib.elem 1234 host.networking.firewall.allowedTCPPorts
    && !lib.elem 1235 host.networking.firewall.interfaces.care0.allowedTCPPorts;

  "one host: the container waits for the registration" =
    lib.elem "container@vvt.service" maker.requiredBy && lib.elem "container@vvt.service" maker.before;

  "one host: the registration, and nothing else of the bridge, is in its homeserver's container, for reading" =
    lib.attrNames host.containers.vvt.bindMounts == [
      "/var/lib/federation-ca/ca.pem"
      registration
    ]
    && lib.all (mount: mount.isReadOnly) (lib.attrValues host.containers.vvt.bindMounts)
    && lib.all (name: !(host.containers.${name}.bindMounts ? ${registration})) [
      "apotheek"
      "huisarts"
    ];

  "one host: Synapse gets the registration as a credential, the others get none" =
    lib.elem credential (synapse host.containers.vvt).LoadCredential
    &&
      vvt.services.matrix-synapse.settings.app_service_config_files
      == [ "/run/credentials/matrix-synapse.service/appservice-fhir-bridge.yaml" ]
    && !lib.elem credential (synapse host.containers.huisarts).LoadCredential;

  "one host: no bridge runs in a container" = lib.all (
    container: !(container.config.systemd.services ? fhir-bridge)
  ) (lib.attrValues host.containers);

  "the bridge's PostgreSQL has its database and its user, without a password" =
    let
      config = evaluate {
        services.care-federation = {
          homeserver = {
            enable = true;
            name = "vvt";
            database = "sqlite";
          };
          bridge = {
            enable = true;
            database = "postgresql";
          };
        };
      };
    in
    config.services.postgresql.enable
    && config.services.postgresql.ensureDatabases == [ "fhir-bridge" ]
    && map (user: user.name) config.services.postgresql.ensureUsers == [ "fhir-bridge" ]
    && lib.elem "postgresql.service" config.systemd.services.fhir-bridge.after;

  "a declared port of the bridge's health is taken" =
    (evaluate {
      services.care-federation.network = {
        enable = true;
        declaration = lib.recursiveUpdate (lib.importTOML ../../nix/network.toml) {
          organisations.vvt.bridge_admin_port = 2235;
        };
      };
    }).services.care-federation.bridge.settings.admin == [ "127.0.0.1:2235" ];
}
