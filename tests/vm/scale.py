workers = ["background", "reader1", "reader2", "sender1", "sender2"]
vvt.start()
vvt.succeed("mkdir -p /etc/care-federation; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 10 -keyout /dev/null -out /etc/care-federation/ca.pem")

with subtest("Synapse runs on PostgreSQL, Redis and workers"):
    vvt.wait_for_unit("matrix-synapse.service")
    vvt.wait_for_unit("care-homeserver-admin.service")
    for worker in workers:
        vvt.wait_for_unit(f"matrix-synapse-worker-{worker}.service")

with subtest("requests are answered by the readers"):
    vvt.succeed("curl -sf --unix-socket /run/matrix-synapse/reader1.sock http://x/_matrix/client/versions")
    vvt.succeed("curl -sf http://$(hostname):8038/_matrix/client/versions")
