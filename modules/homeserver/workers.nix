# Synapse on several processes: one option gives senders, readers and a background worker over Redis and PostgreSQL,
# and nginx in front of them, which sends each request to a process that may answer it.
# Which those are: https://element-hq.github.io/synapse/latest/workers.html#available-worker-applications
{ config, lib, ... }:
let
  cfg = config.services.care-federation.homeserver;
  synapse = config.services.matrix-synapse;
  numbered = kind: map (number: "${kind}${toString number}") (lib.range 1 cfg.workers);
  senders = numbered "sender";
  readers = numbered "reader";
  socketOf = process: "/run/matrix-synapse/${process}.sock";

  listener = path: names: {
    inherit path;
    type = "http";
    x_forwarded = true;
    resources = [
      {
        inherit names;
        compress = false;
      }
    ];
  };
  worker =
    name: settings:
    lib.nameValuePair name (cfg.credentials "matrix-synapse-worker-${name}" // settings);

  clientPaths = [
    "/_matrix/client/(r0|v3|unstable)/(sync|events|initialSync|joined_rooms|publicRooms|search|voip/turnServer)$"
    "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync$"
    "/_matrix/client/(r0|v3)/rooms/[^/]+/(initialSync|joined_members|members|messages|aliases|event/.*|context/.*)$"
    "/_matrix/client/(api/v1|r0|v3|unstable)/rooms/[^/]+/(send|state|redact|join|invite|leave|kick|ban|unban)(/.*)?$"
    "/_matrix/client/(r0|v3)/(join|profile)/"
    "/_matrix/client/(r0|v3)/keys/(query|changes|claim)$"
    "/_matrix/client/v1/rooms/[^/]+/(hierarchy|relations/.*|threads|timestamp_to_event)$"
  ];
  federationPaths = [
    "/_matrix/federation/v1/(event|state|state_ids|backfill|get_missing_events|event_auth|timestamp_to_event)/"
    "/_matrix/federation/v1/(query|make_join|make_leave|hierarchy|user/devices|exchange_third_party_invite)/"
    "/_matrix/federation/v1/publicRooms$"
    "/_matrix/federation/(v1|v2)/(send_join|send_leave|invite)/"
    "/_matrix/federation/v1/send/"
    "/_matrix/key/v2/query"
  ];
  locations =
    upstream: paths:
    lib.listToAttrs (
      map (path: lib.nameValuePair "~ ^${path}" { proxyPass = "http://${upstream}"; }) paths
    );
  upstream = key: processes: {
    extraConfig = lib.optionalString (key != null) "hash ${key} consistent;";
    servers = lib.listToAttrs (
      map (process: lib.nameValuePair "unix:${socketOf process}" { }) processes
    );
  };
in
{
  options.services.care-federation.homeserver.workers = lib.mkOption {
    type = lib.types.ints.unsigned;
    default = 0;
    example = 2;
    description = ''
      On how many processes Synapse spreads its work, for each kind of work: `2` gives two that answer requests and two
      that send to other homeservers, beside the main process and one for background work. Each takes about 125 MB.
      The module sets Redis, PostgreSQL and the routing of requests up.
    '';
  };

  config = lib.mkIf (cfg.enable && cfg.workers > 0) {
    services.matrix-synapse = {
      configureRedisLocally = true;
      # It would want a TCP port of the main process; users are registered through nginx.
      enableRegistrationScript = false;

      settings = {
        listeners = lib.mkForce [
          (listener (socketOf "main") [
            "client"
            "federation"
          ])
          (
            listener "/run/matrix-synapse/main_replication.sock" [ "replication" ]
            // {
              x_forwarded = false;
            }
          )
        ];
        federation_sender_instances = senders;
        run_background_tasks_on = "background";
        update_user_directory_from_worker = "background";
        notify_appservices_from_worker = "background";
        pusher_instances = [ "background" ];
      };

      workers = lib.listToAttrs (
        [ (worker "background" { }) ]
        ++ map (name: worker name { }) senders
        ++ map (
          name:
          worker name {
            worker_listeners = [
              (listener (socketOf name) [
                "client"
                "federation"
              ])
            ];
          }
        ) readers
      );
    };

    users.users.nginx.extraGroups = [ "matrix-synapse" ];
    services.nginx = {
      enable = true;
      upstreams = {
        synapse-main = upstream null [ "main" ];
        # A client stays with one process, which has its recent events at hand; so does a server that sends events,
        # whose transactions must come in order.
        synapse-clients = upstream "$http_authorization" readers;
        synapse-federation = upstream "$http_x_forwarded_for" readers;
      };
      virtualHosts.${cfg.name} = {
        default = true;
        listen = map (addr: {
          addr = if lib.hasInfix ":" addr then "[${addr}]" else addr;
          inherit (cfg) port;
        }) cfg.listenAddresses;
        locations = {
          "/".proxyPass = "http://synapse-main";
        }
        // locations "synapse-clients" clientPaths
        // locations "synapse-federation" federationPaths;
        extraConfig = ''
          # Media, and federation transactions with large events; Synapse has limits of its own.
          client_max_body_size 100m;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_set_header Host $http_host;
          # Synapse cannot do without where Unix sockets are between: a bridge on this host sends none.
          proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
          # A client's long poll.
          proxy_read_timeout 10m;
          proxy_request_buffering off;
        '';
      };
    };

    # Each comes back when it was killed, however often.
    systemd.services =
      lib.mapAttrs' (
        name: _:
        lib.nameValuePair "matrix-synapse-worker-${name}" {
          unitConfig.StartLimitIntervalSec = 0;
          serviceConfig.RestartSec = lib.mkDefault "1s";
        }
      ) synapse.workers
      // {
        redis-matrix-synapse.serviceConfig = {
          Restart = lib.mkDefault "always";
          RestartSec = lib.mkDefault "1s";
        };
        nginx = {
          wants = [ synapse.serviceUnit ];
          after = [ synapse.serviceUnit ];
          serviceConfig.RestartSec = lib.mkForce "1s";
        };
        care-homeserver-admin = lib.mkIf (cfg.admin.user != null) {
          wants = [ "nginx.service" ];
          after = [ "nginx.service" ];
        };
      };
  };
}
