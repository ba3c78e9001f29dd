homeservers = [apotheek_host, huisarts_host, vvt_host]
workers = ["background", "reader1", "reader2", "sender1", "sender2"]
start_all()
hand_out_ca(gateway, homeservers)

with subtest("Synapse runs on PostgreSQL, Redis and workers"):
    wait_for_network(gateway, homeservers)
    for worker in workers:
        vvt_host.wait_for_unit(f"matrix-synapse-worker-{worker}.service", timeout=90)
    tables = vvt_host.succeed("runuser -u matrix-synapse -- psql -Atc 'select count(*) from users' matrix-synapse")
    assert int(tables) == 1, tables

with subtest("each reader answers"):
    for worker in workers:
        if worker.startswith("reader"):
            vvt_host.succeed(
                f"curl --silent --fail --unix-socket /run/matrix-synapse/{worker}.sock http://vvt/_matrix/client/versions"
            )

with subtest("the scenario of federation-lab passes across workers"):
    write_target(gateway, homeservers)
    print(gateway.succeed("federation-lab verify --target /root/target.toml 2>&1", timeout=180))

with subtest("the work went to the workers"):
    for worker, did in [("reader", "Processed request: .*_matrix/(client|federation)"), ("sender", "TX \\[")]:
        vvt_host.succeed(f"journalctl -u 'matrix-synapse-worker-{worker}*' --no-pager | grep -E -m 1 '{did}'")

with subtest("PostgreSQL is in the copy"):
    vvt_host.succeed("systemctl start care-homeserver-backup.service")
    vvt_host.succeed("test -s /var/backup/care-homeserver/*/homeserver.dump")

with subtest("a killed worker comes back"):
    vvt_host.succeed("systemctl kill --signal=KILL matrix-synapse-worker-reader1.service")
    vvt_host.wait_until_succeeds(
        "curl --silent --fail --unix-socket /run/matrix-synapse/reader1.sock http://vvt/_matrix/client/versions",
        timeout=90,
    )
