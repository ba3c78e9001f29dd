# The bridge's secrets: files outside the Nix store, which its unit gets as credentials.
{ config, lib, ... }:
let
  cfg = config.services.care-federation.bridge;
  inherit (cfg) settings;
  secrets = import ../lib/secrets.nix { inherit lib; };
  prefix = "services.care-federation.bridge";

  # Every setting that names a file with a secret: the option with which the file is given, and the name of the
  # credential. tests/nix/facts.nix holds them against the program's own settings.
  files = [
    {
      option = [ "registrationFile" ];
      setting = [ "registration" ];
      credential = "registration.yaml";
    }
    {
      option = [ "databasePasswordFile" ];
      setting = [
        "database"
        "password_file"
      ];
      credential = "database-password";
    }
    {
      option = [ "tokensFile" ];
      setting = [
        "fhir"
        "tokens_file"
      ];
      credential = "tokens.toml";
    }
    {
      option = [ "viewersFile" ];
      setting = [
        "page"
        "viewers_file"
      ];
      credential = "viewers.toml";
    }
    {
      option = [
        "fhirServer"
        "hookSecretFile"
      ];
      setting = [
        "fhir"
        "server"
        "hook_secret_file"
      ];
      credential = "fhir-hook-secret";
    }
  ]
  ++ logIn "fhirServer" [ "fhir" "server" ] "fhir"
  ++ logIn "directory" [ "directory" ] "directory";

  # The three ways to log in at a FHIR server, which a care directory is too.
  logIn = option: setting: credential: [
    {
      option = [
        option
        "tokenFile"
      ];
      setting = setting ++ [ "token_file" ];
      credential = "${credential}-token";
    }
    {
      option = [
        option
        "certificateFile"
      ];
      setting = setting ++ [ "certificate_file" ];
      credential = "${credential}-certificate.pem";
    }
    {
      option = [
        option
        "keyFile"
      ];
      setting = setting ++ [
        "smart"
        "key_file"
      ];
      credential = "${credential}-key.pem";
    }
  ];
  logInOptions = who: settingsAt: client: {
    tokenFile = secrets.mkSecretOption {
      example = "/etc/secrets/${client}-token";
      description = ''
        A bearer token for ${who} in {option}`${settingsAt}`. It is read when the bridge starts; one that is renewed
        meanwhile goes to {option}`${settingsAt}.token_file`, in a file that the user `fhir-bridge` can read.
      '';
    };
    certificateFile = secrets.mkSecretOption {
      example = "/etc/secrets/${client}-client.pem";
      description = "A client certificate with its chain and key (PEM) for ${who} in {option}`${settingsAt}`.";
    };
    keyFile = secrets.mkSecretOption {
      example = "/etc/secrets/${client}-smart.pem";
      description = ''
        The private key (PEM, PKCS #8) with which the bridge logs in at ${who} by SMART backend services; the name of
        the client goes to {option}`${settingsAt}.smart.client_id`.
      '';
    };
  };

  pathOf = file: lib.getAttrFromPath file.option cfg;
  given = lib.filter (file: pathOf file != null) files;
  written = file: lib.attrByPath file.setting null settings;
  named = lib.concatStringsSep ".";
in
{
  options.services.care-federation.bridge = {
    registrationFile = secrets.mkSecretOption {
      example = "/etc/secrets/fhir-bridge-registration.yaml";
      description = ''
        An existing registration of the bridge. Without it one with fresh tokens is made on the first start, kept in
        {file}`/var/lib/fhir-bridge/registration.yaml`, and handed to the homeserver on this host, which starts after
        it. Needed where the homeserver is on another host: that one must be given the same file.
      '';
    };

    databasePasswordFile = secrets.mkSecretOption {
      example = "/etc/secrets/fhir-bridge-database";
      description = "A file with the password for the PostgreSQL server in {option}`settings.database.url`.";
    };

    tokensFile = secrets.mkSecretOption {
      example = "/etc/secrets/fhir-clients.toml";
      description = ''
        The clients of the embedded FHIR endpoint: a TOML file of tables `[[client]]` with `name`, `token` and `scopes`.
        Without it everybody on this machine may use the endpoint, and it can listen on loopback alone.
      '';
    };

    viewersFile = secrets.mkSecretOption {
      example = "/etc/secrets/bridge-viewers.toml";
      description = ''
        Those who may see names and texts on the bridge's web page at {option}`settings.admin`: a TOML file like
        {option}`tokensFile`. Without it the page has numbers alone.
      '';
    };

    fhirServer = logInOptions "the FHIR server" "settings.fhir.server" "fhir" // {
      hookSecretFile = secrets.mkSecretOption {
        example = "/etc/secrets/fhir-hook-secret";
        description = ''
          The secret that the FHIR server in {option}`settings.fhir.server` sends along when it calls the bridge at
          {option}`settings.fhir.server.hook_url`. Without it one is made on the first start. Bridges that share a
          database need the same.
        '';
      };
    };

    directory = logInOptions "the care directory" "settings.directory" "directory";

    credentials = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.attrsOf lib.types.str;
      default = lib.listToAttrs (
        map (file: lib.nameValuePair file.credential (toString (pathOf file))) given
      );
      description = "The given secrets, by the names of their credentials.";
    };

    secretSettings = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.attrsOf lib.types.raw;
      default = lib.foldl' lib.recursiveUpdate { } (
        map (
          file: lib.setAttrByPath file.setting "/run/credentials/fhir-bridge.service/${file.credential}"
        ) given
      );
      description = "The settings that name these credentials.";
    };

    secretFiles = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.listOf lib.types.str;
      default = map (file: named file.setting) files;
      description = "The settings that are given as credentials.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions =
      lib.concatMap (file: [
        (secrets.notInStore "${prefix}.${named file.option}" (pathOf file))
        (secrets.notInStore "${prefix}.settings.${named file.setting}" (written file))
        {
          assertion = pathOf file == null || written file == null;
          message = ''
            ${prefix}.settings.${named file.setting} and ${prefix}.${named file.option} are both set.
            Keep the second, which the bridge gets as a credential.
          '';
        }
      ]) files
      ++ [
        {
          assertion = settings.registration or null == null;
          message = ''
            ${prefix}.settings.registration is set, but the homeserver would not be given that file.
            Write ${prefix}.registrationFile = "/etc/secrets/fhir-bridge-registration.yaml";
          '';
        }
        {
          assertion =
            settings.fhir.server != null || lib.all (path: path == null) (lib.attrValues cfg.fhirServer);
          message = ''
            ${prefix}.fhirServer has credentials, but there is no FHIR server elsewhere to show them to.
            Write ${prefix}.settings.fhir.server.base = "https://...";
          '';
        }
        {
          assertion =
            cfg.fhirServer.hookSecretFile == null
            || settings.fhir.server == null
            || settings.fhir.server.hook_url or null != null;
          message = ''
            ${prefix}.fhirServer.hookSecretFile is set, but the FHIR server is not told to call the bridge.
            Write ${prefix}.settings.fhir.server.hook_url = "https://.../fhir-hook";
          '';
        }
        {
          assertion =
            settings.directory.base or null != null
            || lib.all (path: path == null) (lib.attrValues cfg.directory);
          message = ''
            ${prefix}.directory has credentials, but there is no care directory elsewhere to show them to.
            Write ${prefix}.settings.directory.base = "https://...";
          '';
        }
        {
          assertion = cfg.databasePasswordFile == null || settings.database.url != null;
          message = ''
            ${prefix}.databasePasswordFile is set, but there is no PostgreSQL server to show it to.
            Write ${prefix}.settings.database.url = "postgresql://fhir-bridge@db.example.nl/fhir-bridge";
          '';
        }
      ];
  };
}
