# federation-ca: the network's certificate authority with its enrolment server (EST), and hosts that enrol there.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.care-federation.ca;
  hardening = import ../lib/hardening.nix;
  secrets = import ../lib/secrets.nix { inherit lib; };
  inherit (import ../lib/addresses.nix { inherit lib; }) portOf;

  program = "${lib.getExe cfg.package} --dir ${cfg.directory}";
  groups = lib.unique (
    lib.filter (group: group != null) (
      lib.mapAttrsToList (_: certificate: certificate.group) cfg.certificates
    )
  );
  issue =
    name: certificate:
    lib.concatStringsSep " " (
      [
        program
        "issue"
      ]
      ++ host name certificate
    );
  # The arguments for a name, the same for `issue` and `enrol`.
  host =
    name: certificate:
    [ (lib.escapeShellArg name) ]
    ++ map (san: "--san ${lib.escapeShellArg san}") certificate.extraNames
    ++ lib.optional (certificate.group != null) "--group ${certificate.group}";

  # Shared by everything that works in the CA's directory.
  unit = hardening // {
    User = "federation-ca";
    Group = "federation-ca";
    # The groups that may read keys; it must be in them to hand files over, and see them in its own namespace.
    SupplementaryGroups = groups;
    PrivateUsers = false;
    SystemCallFilter = hardening.SystemCallFilter ++ [ "@chown" ];
    StateDirectory = "federation-ca";
    # Others may enter for the public files and for their own pairs, not look around.
    StateDirectoryMode = "0711";
  };

  withNetwork = import ../lib/network.nix;

  # One certificate from an authority elsewhere. The token is needed once; afterwards the present certificate speaks for
  # the host, and the token's file may go.
  enrol =
    name: certificate:
    let
      trust =
        if cfg.client.fingerprint != null then
          "--fingerprint ${cfg.client.fingerprint}"
        else
          "--ca ${toString cfg.client.caFile}";
    in
    ''
      (
        set -- enrol ${lib.concatStringsSep " " (host name certificate)} --server ${lib.escapeShellArg cfg.client.server}
        if [ ! -e ${cfg.directory}/ca.pem ]; then
          set -- "$@" ${trust}
        fi
        token=$CREDENTIALS_DIRECTORY/token-${name}
        if [ -e "$token" ] && [ "$(cat "$token")" != ${noToken} ]; then
          set -- "$@" --token-file "$token"
        fi
        ${program} "$@"
      ) || failed=$?
    '';
  noToken = "none";
  tokens = lib.filterAttrs (_: certificate: certificate.tokenFile != null) cfg.certificates;

  # The names of the certificates that a unit must hear of, by unit.
  reloads = lib.foldAttrs (name: names: [ name ] ++ names) [ ] (
    lib.mapAttrsToList (
      name: certificate: lib.genAttrs certificate.reloadUnits (_: name)
    ) cfg.certificates
  );
  # After a failure too: of several certificates the others may have been renewed.
  thenReload =
    let
      units = lib.optional (reloads != { }) "federation-ca-reload.service";
    in
    {
      OnSuccess = units;
      OnFailure = units;
    };
in
{
  imports = [
    ../lib/listeners.nix
    ./options.nix
  ];

  config = lib.mkMerge [
    (lib.mkIf (cfg.enable || cfg.client.enable) {
      assertions = [
        {
          assertion = !(cfg.enable && cfg.client.enable);
          message = ''
            services.care-federation.ca: this host cannot both have the CA and be a client of another.
            Set either services.care-federation.ca.enable or services.care-federation.ca.client.enable.
          '';
        }
      ];

      users = import ../lib/user.nix "federation-ca";

      environment.systemPackages = [ cfg.package ];

      # As root, for it tells other units; it reads nothing but the names of the pairs in place.
      systemd.services.federation-ca-reload = lib.mkIf (reloads != { }) {
        description = "Reload of the units whose certificates were renewed";
        # The CA's start may issue one anew: a name was added, or the old one was revoked or had expired.
        wantedBy = lib.optional cfg.enable "federation-ca.service";
        after = lib.optional cfg.enable "federation-ca.service";
        # However often it is asked for: who was not asked keeps the old certificate until it expires.
        unitConfig.StartLimitIntervalSec = 0;
        # What a unit was told is kept when it was told: one that fails keeps nothing from the others, and is told again.
        script = ''
          failed=0
          tell() {
            unit=$1
            shift
            # Of a certificate that is not there yet there is nothing to tell.
            now=$(cd ${cfg.directory}/certs && readlink "$@" || true)
            if [ "$now" = "$(cat "$RUNTIME_DIRECTORY/$unit" 2>/dev/null || true)" ]; then
              return
            elif systemctl try-reload-or-restart "$unit"; then
              echo "$now" > "$RUNTIME_DIRECTORY/$unit"
            else
              echo "$unit could not be told of its new certificate; it will be told again" >&2
              failed=1
            fi
          }
          ${lib.concatLines (
            lib.mapAttrsToList (unit: names: "tell ${lib.escapeShellArgs ([ unit ] ++ names)}") reloads
          )}
          exit $failed
        '';
        serviceConfig = hardening // {
          Type = "oneshot";
          PrivateUsers = false;
          RuntimeDirectory = "federation-ca-reload";
          RuntimeDirectoryPreserve = true;
          Restart = "on-failure";
          RestartSec = "5s";
          RestartSteps = 6;
          RestartMaxDelaySec = "5min";
        };
      };
    })

    (lib.mkIf cfg.enable {
      assertions = [
        {
          assertion = cfg.names != [ ];
          message = ''
            services.care-federation.ca.names is empty: the CA could issue nothing.
            Write the names of the network: services.care-federation.ca.names = [ "vvt" ];
          '';
        }
      ]
      ++ lib.mapAttrsToList (name: _: {
        assertion = lib.any (permitted: name == permitted || lib.hasSuffix ".${permitted}" name) cfg.names;
        message = ''
          services.care-federation.ca.certificates."${name}" is for a name that the CA may not certify.
          Add it: services.care-federation.ca.names = [ "${name}" ];
        '';
      }) cfg.certificates;

      systemd.services = {
        federation-ca = {
          description = "Certificate authority of the care federation";
          documentation = [ "man:federation-ca(1)" ];
          wantedBy = [ "multi-user.target" ];
          serviceConfig = unit // {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = [
              "${program} init ${
                lib.concatMapStringsSep " " (name: "--name ${lib.escapeShellArg name}") (
                  cfg.names ++ lib.optional cfg.est.enable cfg.est.name
                )
              }"
            ]
            ++ lib.mapAttrsToList issue cfg.certificates;
          };
        };

        federation-ca-renew = {
          description = "Renewal of the certificates that are due";
          documentation = [ "man:federation-ca(1)" ];
          requires = [ "federation-ca.service" ];
          after = [ "federation-ca.service" ];
          startAt = cfg.renewal;
          unitConfig = thenReload;
          serviceConfig = unit // {
            Type = "oneshot";
            ExecStart = "${program} renew";
          };
        };
      };

      systemd.timers.federation-ca-renew.timerConfig = {
        Persistent = true;
        RandomizedDelaySec = "5min";
      };
    })

    (lib.mkIf (cfg.enable && cfg.est.enable) {
      services.care-federation.listeners."ca.est.listen" = cfg.est.listen;

      systemd.sockets.federation-ca-est = {
        description = "Enrolment in the care federation (EST)";
        wantedBy = [ "sockets.target" ];
        listenStreams = cfg.est.listen;
        socketConfig = {
          FileDescriptorName = "est";
          BindIPv6Only = "both";
          # Sockets come before the network, so that an address may not be there yet.
          FreeBind = true;
          NoDelay = true;
        };
      };

      systemd.services.federation-ca-est = {
        description = "Enrolment in the care federation (EST)";
        documentation = [ "man:federation-ca-serve(1)" ];
        requires = [
          "federation-ca.service"
          "federation-ca-est.socket"
        ];
        after = [ "federation-ca.service" ];
        wantedBy = [ "multi-user.target" ];
        serviceConfig =
          unit
          // withNetwork
          // {
            Type = "notify";
            ExecStart = "${program} serve --listen systemd:est --name ${lib.escapeShellArg cfg.est.name}";
            Restart = "always";
            RestartSec = "1s";
            WatchdogSec = "30s";
            MemoryMax = "256M";
            TasksMax = 128;
            # Its port comes from the socket unit, and it calls nobody.
            SocketBindDeny = "any";
          };
      };

      networking.firewall.allowedTCPPorts = lib.mkIf cfg.est.openFirewall (map portOf cfg.est.listen);
    })

    (lib.mkIf cfg.client.enable {
      assertions = [
        {
          assertion = cfg.client.server != null;
          message = ''
            services.care-federation.ca.client.server is not set.
            Write the enrolment server: services.care-federation.ca.client.server = "https://ca.example:8449";
          '';
        }
        {
          assertion = cfg.client.fingerprint != null || cfg.client.caFile != null;
          message = ''
            services.care-federation.ca.client does not say which CA to trust at the first contact.
            Write its fingerprint, which `federation-ca show` prints on the CA's host:
            services.care-federation.ca.client.fingerprint = "...";
          '';
        }
      ]
      ++ lib.concatLists (
        lib.mapAttrsToList (
          name: certificate:
          let
            option = ''services.care-federation.ca.certificates."${name}".tokenFile'';
          in
          [
            {
              assertion = certificate.tokenFile != null;
              message = ''
                ${option} is not set: the CA on the other host would not know this one.
                Make a token there with `federation-ca token ${name}`, put it into a file here, and write its path:
                ${option} = "/etc/secrets/enrolment-token";
              '';
            }
            (secrets.notInStore option certificate.tokenFile)
          ]
        ) cfg.certificates
      );

      systemd.services.federation-ca-client = {
        description = "Certificates from the network's certificate authority";
        documentation = [ "man:federation-ca-enrol(1)" ];
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        startAt = cfg.renewal;
        # One that fails does not stop the others; the unit fails after all of them, and tries again.
        script = ''
          failed=0
          ${lib.concatStrings (lib.mapAttrsToList enrol cfg.certificates)}
          exit $failed
        '';
        unitConfig = thenReload // {
          StartLimitIntervalSec = 0;
        };
        serviceConfig =
          unit
          // withNetwork
          // {
            Type = "oneshot";
            # The CA's host may be away for a while.
            Restart = "on-failure";
            RestartSec = "10s";
            LoadCredential = lib.mapAttrsToList (
              name: certificate: "token-${name}:${toString certificate.tokenFile}"
            ) tokens;
            # Where the file is gone, which is no mistake once there is a certificate.
            SetCredential = lib.mapAttrsToList (name: _: "token-${name}:${noToken}") tokens;
          };
      };

      systemd.timers.federation-ca-client.timerConfig = {
        Persistent = true;
        RandomizedDelaySec = "5min";
      };
    })
  ];
}
