homeservers = [apotheek_host, huisarts_host, vvt_host]
workers = ["background", "reader1", "reader2", "sender1", "sender2"]
start_all()
hand_out_ca(gateway, homeservers)

with subtest("Synapse runs on PostgreSQL, Redis and workers"):
    wait_for_network(gateway, homeservers)
    for worker in workers:
        vvt_host.wait_for_unit(f"matrix-synapse-worker-{worker}.service", timeout=90)
    # The bridge's bot may have registered itself beside the administrator.
    users = vvt_host.succeed("runuser -u matrix-synapse -- psql -Atc 'select name from users' matrix-synapse")
    assert "@admin:vvt" in users.split(), users

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

with subtest("each process comes back when it is killed, and messages go on"):
    tokens = {
        "vvt": administrator(vvt_host, "http://vvt-host:8038"),
        "huisarts": register(huisarts_host, "http://huisarts-host:8028"),
    }
    invitation = {"preset": "private_chat", "invite": ["@tester:huisarts"]}
    room = client(gateway, "vvt", tokens["vvt"], "POST", "/createRoom", invitation)["room_id"]
    retry(lambda _: status(gateway, "huisarts", tokens["huisarts"], "POST", f"/join/{room}", {}) == 200, 60)
    others = ["matrix-synapse", "postgresql", "redis-matrix-synapse", "nginx"]
    for unit in [*(f"matrix-synapse-worker-{worker}" for worker in workers), *others]:
        wait_until_up(vvt_host, kill(vvt_host, f"{unit}.service"))
        # Under one transaction id, however often it must be tried.
        path = f"/rooms/{room}/send/m.room.message/{unit}"
        said = {"msgtype": "m.text", "body": unit}
        retry(lambda _, path=path, said=said: status(gateway, "vvt", tokens["vvt"], "PUT", path, said) == 200, 60)

        def heard(_, unit=unit):
            found = client(gateway, "huisarts", tokens["huisarts"], "GET", f"/rooms/{room}/messages?dir=b&limit=20")
            return [event for event in found["chunk"] if event["content"].get("body") == unit] != []

        retry(heard, 60)

with subtest("the bridge keeps its state in PostgreSQL, and carries a conversation across workers"):
    put_people(vvt_host, "@tester:huisarts")
    put_conversation(vvt_host)
    join_alias(gateway, "huisarts", tokens["huisarts"], "careteam-team1")
    conversation = join_alias(gateway, "huisarts", tokens["huisarts"], "communicationrequest-t1")
    tables = vvt_host.succeed("runuser -u fhir-bridge -- psql -Atc '\\dt *.*' fhir-bridge | grep -v -c pg_catalog")
    assert int(tables) > 0, tables
    vvt_host.fail("ls /var/lib/fhir-bridge/*.sqlite")

with subtest("PostgreSQL and the bridge are killed, and each message arrives once"):
    communication(vvt_host, "m1", "Voor de klap.")
    killed = kill(vvt_host, "postgresql.service", "fhir-bridge.service")

    def confirmed(_):
        body = {"msgtype": "m.text", "body": "Na de klap."}
        path = f"/rooms/{conversation}/send/m.room.message/after"
        return status(gateway, "huisarts", tokens["huisarts"], "PUT", path, body) == 200

    retry(confirmed, 60)
    wait_until_up(vvt_host, killed)

    def once(_):
        path = f"/rooms/{conversation}/messages?dir=b&limit=50"
        found = client(gateway, "huisarts", tokens["huisarts"], "GET", path)["chunk"]
        in_matrix = sorted(event["content"]["body"] for event in found if event["type"] == "m.room.message")
        in_fhir = sorted(map(text_of, communications(vvt_host)))
        return in_matrix == ["Hoe gaat het met moeder?", "Na de klap.", "Voor de klap."] and in_fhir == in_matrix[1:]

    retry(once, 90)
