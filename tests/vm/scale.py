workers = ["background", "reader1", "reader2", "sender1", "sender2"]
vvt_host.start()
vvt_host.succeed("mkdir -p /etc/care-federation; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 10 -keyout /dev/null -out /etc/care-federation/ca.pem")

with subtest("Synapse runs on PostgreSQL, Redis and workers"):
    vvt_host.wait_for_unit("matrix-synapse.service")
    vvt_host.wait_for_unit("care-homeserver-admin.service")
    for worker in workers:
        vvt_host.wait_for_unit(f"matrix-synapse-worker-{worker}.service")

with subtest("requests are answered by the readers"):
    vvt_host.succeed("curl -sf --unix-socket /run/matrix-synapse/reader1.sock http://x/_matrix/client/versions")
    vvt_host.succeed("curl -sf http://$(hostname):8038/_matrix/client/versions")
