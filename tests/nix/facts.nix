# What must be true of evaluated systems, as sentences that are true or false. Here is what VM tests without nested
# containers cannot show: how the host and the containers of a whole network on one host wait for each other, and what
# of the host is in the containers.
{ pkgs, evaluate }:
let
  inherit (pkgs) lib;
  host = evaluate { services.care-federation.network.enable = true; };
  inherit (host.services.care-federation) bridge;
  vvt = host.containers.vvt.config;
  address = host.containers.vvt.localAddress;
  registration = "/var/lib/fhir-bridge/registration.yaml";
  synapse = container: container.config.systemd.services.matrix-synapse.serviceConfig;
  credential = "appservice-fhir-bridge.yaml:${registration}";
  maker = host.systemd.services.fhir-bridge-registration;

  rust = lib.filter (path: lib.hasSuffix ".rs" (toString path));
  # What the library's tests read from the repository: `env!("CARGO_MANIFEST_DIR")).join("tests/examples")`.
  read = lib.concatMap (
    path:
    lib.concatMap (found: lib.optional (lib.isList found) (lib.head found)) (
      builtins.split "CARGO_MANIFEST_DIR\"\\)\\)\\.join\\(\"([^\"]+)\"" (builtins.readFile path)
    )
  ) (rust (lib.filesystem.listFilesRecursive ../../src));
  package = builtins.readFile ../../nix/package.nix;
  # The settings of the bridge that name files, as its source declares them: `pub token_file: Option<PathBuf>,`.
  declaredFiles = lib.unique (
    lib.concatMap
      (
        path:
        lib.concatMap (found: lib.optional (lib.isList found) (lib.head found)) (
          builtins.split "pub ([a-z_]+_file): [^,]*PathBuf" (builtins.readFile path)
        )
      )
      (
        rust (
          lib.concatMap lib.filesystem.listFilesRecursive [
            ../../src/bridge
            ../../src/fhir
            ../../src/matrix
            ../../src/service
          ]
        )
      )
  );
  publicFiles = [ "ca_file" ];
  leaf = setting: lib.last (lib.splitString "." setting);
in
{
  "what the library's tests read is in the package's source" =
    read != [ ]
    && lib.all (
      path:
      lib.any
        (
          length:
          lib.hasInfix "../${lib.concatStringsSep "/" (lib.take length (lib.splitString "/" path))}\n" package
        )
        [
          1
          2
          3
        ]
    ) read;

  "an edit of the documents, of a module or of a VM test rebuilds no program" =
    let
      inherit ((import ../../nix/programs.nix pkgs).care-federation) src;
      built = lib.filesystem.listFilesRecursive "${src}";
      isElsewhere =
        path:
        lib.any (part: lib.hasInfix part path) [
          ".md"
          ".nix"
          "/tests/vm/"
        ];
    in
    lib.any (lib.hasSuffix "/src/lib.rs") built && !lib.any isElsewhere built;

  "every kind of file that a setting of the bridge names is a credential or public" =
    let
      ours = lib.filter (lib.hasSuffix "_file") (map leaf bridge.secretFiles) ++ publicFiles;
    in
    lib.sort lib.lessThan (lib.unique ours) == lib.sort lib.lessThan declaredFiles;

  "secrets of the bridge are credentials of its unit, and its settings name them" =
    let
      config = evaluate {
        services.care-federation.bridge = {
          enable = true;
          registrationFile = "/etc/secrets/registration.yaml";
          fhirServer.hookSecretFile = "/etc/secrets/fhir-hook-secret";
          directory.keyFile = "/etc/secrets/directory-smart.pem";
          settings = {
            fhir.server = {
              base = "https://fhir.example.nl/r4";
              hook_url = "https://bridge.vvt.example/fhir-hook";
            };
            directory.base = "https://directory.example.nl/fhir";
          };
        };
      };
      given = "/run/credentials/fhir-bridge.service";
    in
    config.systemd.services.fhir-bridge.serviceConfig.LoadCredential == [
      "directory-key.pem:/etc/secrets/directory-smart.pem"
      "fhir-hook-secret:/etc/secrets/fhir-hook-secret"
      "registration.yaml:/etc/secrets/registration.yaml"
    ]
    &&
      config.services.care-federation.bridge.secretSettings == {
        registration = "${given}/registration.yaml";
        fhir.server.hook_secret_file = "${given}/fhir-hook-secret";
        directory.smart.key_file = "${given}/directory-key.pem";
      };

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
