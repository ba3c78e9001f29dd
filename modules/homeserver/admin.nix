# The homeserver's first administrator, made once.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.care-federation.homeserver;
  synapse = config.services.matrix-synapse;
  secrets = import ../lib/secrets.nix { inherit lib; };
  unit = "care-homeserver-admin";
  madePassword = "/var/lib/${unit}/password";

  inherit (import ../lib/addresses.nix { inherit lib; }) isWildcard reached;
  address = reached (lib.head cfg.listenAddresses);

  # The registration tool reads the shared secret from a file that a configuration names, never from an argument.
  configuration = (pkgs.formats.yaml { }).generate "registration.yaml" {
    registration_shared_secret_path = "/run/credentials/${unit}.service/registration";
  };
in
{
  options.services.care-federation.homeserver.admin = {
    user = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "[a-z0-9._=/+-]+");
      default = "admin";
      example = null;
      description = "The first administrator's user name, without server name; null for none.";
    };

    passwordFile = secrets.mkSecretOption {
      example = "/etc/secrets/admin-password";
      description = ''
        A file with the administrator's password. Without it one is made on the first start and kept in
        {file}`${madePassword}`, which only root can read. A password that was changed later stays as it is.
      '';
    };
  };

  config = lib.mkIf (cfg.enable && cfg.admin.user != null) {
    assertions = [
      (secrets.notInStore "services.care-federation.homeserver.admin.passwordFile" cfg.admin.passwordFile)
    ];

    systemd.services.${unit} = {
      description = "First administrator of the homeserver";
      wantedBy = [
        "multi-user.target"
        "care-homeserver.target"
      ];
      unitConfig.ConditionPathExists = toString cfg.caCertificate;
      # Until it is done, however often: Synapse's own start may fail before one succeeds.
      unitConfig.StartLimitIntervalSec = 0;
      requires = [ "care-homeserver-secrets.service" ];
      wants = [ "matrix-synapse.service" ];
      after = [
        "care-homeserver-secrets.service"
        "matrix-synapse.service"
      ];
      script = ''
        password=$CREDENTIALS_DIRECTORY/password
        ${lib.optionalString (cfg.admin.passwordFile == null) ''
          password=$STATE_DIRECTORY/password
          if [ ! -s "$password" ]; then
            head -c 18 /dev/urandom | base64 > "$password.new"
            sync "$password.new"
            mv "$password.new" "$password"
          fi
        ''}
        ${synapse.package}/bin/register_new_matrix_user --exists-ok --admin \
          --user ${lib.escapeShellArg cfg.admin.user} --password-file "$password" \
          --config ${configuration} http://${address}:${toString cfg.port}
      '';
      serviceConfig =
        import ../lib/hardening.nix
        // import ../lib/network.nix
        // {
          Type = "oneshot";
          RemainAfterExit = true;
          Restart = "on-failure";
          RestartSec = "5s";
          DynamicUser = true;
          StateDirectory = unit;
          StateDirectoryMode = "0700";
          LoadCredential = [
            "registration:${cfg.secretPaths.registration}"
          ]
          ++ lib.optional (cfg.admin.passwordFile != null) "password:${toString cfg.admin.passwordFile}";

          # It talks to the homeserver's own port.
          IPAddressDeny = "any";
          IPAddressAllow = [ "localhost" ] ++ lib.filter (host: !isWildcard host) cfg.listenAddresses;
        };
    };
  };
}
