# The homeserver's secrets: given as files, or made once on the machine; in both cases credentials of the units.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.homeserver;
  secrets = import ../lib/secrets.nix { inherit lib; };
  state = "/var/lib/care-homeserver";

  # What Synapse calls them, by the names of their credentials.
  settingOf = {
    registration = "registration_shared_secret_path";
    macaroon = "macaroon_secret_key_path";
    form = "form_secret_path";
  }
  // lib.optionalAttrs (cfg.workers > 0) { replication = "worker_replication_secret_path"; };

  given = lib.filterAttrs (_: path: path != null) {
    registration = cfg.registrationSecretFile;
    macaroon = cfg.macaroonSecretFile;
  };
  made = lib.attrNames (removeAttrs settingOf (lib.attrNames given));
  pathOf = name: toString (given.${name} or "${state}/${name}");

  registrationOf = name: "appservice-${name}.yaml";
  credentials =
    lib.mapAttrsToList (name: _: "${name}:${pathOf name}") settingOf
    ++ lib.mapAttrsToList (
      name: path: "${registrationOf name}:${toString path}"
    ) cfg.applicationServices;

  # Synapse's settings name the files in the credentials directory of the unit that reads them.
  settingsFor =
    unit:
    lib.mapAttrs' (
      name: setting: lib.nameValuePair setting "/run/credentials/${unit}.service/${name}"
    ) settingOf
    // lib.optionalAttrs (cfg.applicationServices != { }) {
      app_service_config_files = map (name: "/run/credentials/${unit}.service/${registrationOf name}") (
        lib.attrNames cfg.applicationServices
      );
    };

  workerUnits = map (name: "matrix-synapse-worker-${name}") (
    lib.attrNames config.services.matrix-synapse.workers
  );
  readsSecrets = {
    requires = [ "care-homeserver-secrets.service" ];
    after = [ "care-homeserver-secrets.service" ];
    serviceConfig.LoadCredential = credentials;
  };
in
{
  options.services.care-federation.homeserver = {
    registrationSecretFile = secrets.mkSecretOption {
      example = "/etc/secrets/registration";
      description = ''
        A file with the secret that allows the registration of users. Without it a secret is made on the first start
        and kept in {file}`/var/lib/care-homeserver/registration`.
      '';
    };

    macaroonSecretFile = secrets.mkSecretOption {
      example = "/etc/secrets/macaroon";
      description = ''
        A file with the secret that signs access tokens. Without it a secret is made on the first start and kept in
        {file}`/var/lib/care-homeserver/macaroon`.
      '';
    };

    signingKeyFile = secrets.mkSecretOption {
      example = "/etc/secrets/vvt.signing.key";
      description = ''
        The key with which the homeserver signs its events, in Synapse's format. It is copied into Synapse's directory
        on each start. Without it Synapse makes one on its first start.
      '';
    };

    credentials = lib.mkOption {
      internal = true;
      type = lib.types.functionTo lib.types.raw;
      default = settingsFor;
      description = "Synapse's settings that name the secrets of a unit.";
    };

    secretPaths = lib.mkOption {
      type = lib.types.attrsOf lib.types.str;
      readOnly = true;
      default = lib.genAttrs (lib.attrNames settingOf) pathOf;
      defaultText = lib.literalMD "the given files, or those made in {file}`/var/lib/care-homeserver`";
      description = "Where the secrets are, by name, for other units to load as credentials.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      (secrets.notInStore "services.care-federation.homeserver.registrationSecretFile" cfg.registrationSecretFile)
      (secrets.notInStore "services.care-federation.homeserver.macaroonSecretFile" cfg.macaroonSecretFile)
      (secrets.notInStore "services.care-federation.homeserver.signingKeyFile" cfg.signingKeyFile)
    ];

    services.matrix-synapse.settings = settingsFor "matrix-synapse";

    systemd.services = {
      care-homeserver-secrets = {
        description = "Secrets of the homeserver, made once";
        wantedBy = [ "multi-user.target" ];
        script = ''
          for name in ${lib.escapeShellArgs made}; do
            if [ ! -s "$STATE_DIRECTORY/$name" ]; then
              head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$STATE_DIRECTORY/$name.new"
              sync "$STATE_DIRECTORY/$name.new"
              mv "$STATE_DIRECTORY/$name.new" "$STATE_DIRECTORY/$name"
            fi
          done
        '';
        serviceConfig = import ../lib/hardening.nix // {
          Type = "oneshot";
          RemainAfterExit = true;
          DynamicUser = true;
          StateDirectory = "care-homeserver";
          StateDirectoryMode = "0700";
        };
      };

      matrix-synapse = lib.mkMerge [
        readsSecrets
        (lib.mkIf (cfg.signingKeyFile != null) {
          serviceConfig.LoadCredential = [ "signing-key:${toString cfg.signingKeyFile}" ];
          preStart = lib.mkBefore ''
            ${pkgs.coreutils}/bin/install -m 0600 "$CREDENTIALS_DIRECTORY/signing-key" \
              ${config.services.matrix-synapse.settings.signing_key_path}
          '';
        })
      ];
    }
    // lib.genAttrs workerUnits (_: readsSecrets);
  };
}
