hosts = [huisarts, vvt]
start_all()

with subtest("the hosts get their certificates from the CA, each with its token"):
    # In the way of Synapse's first start.
    vvt.succeed("systemd-run --unit=in-the-way openssl s_server -accept 127.0.0.1:8008 -nocert -cipher NULL -quiet")
    vvt.wait_for_open_port(8008)
    hand_out_ca(ca, hosts)
    ca.wait_for_unit("federation-ca-est.service")
    for host in hosts:
        token = ca.succeed(f"runuser -u federation-ca -- federation-ca --dir /var/lib/federation-ca token {host.name}")
        host.succeed("install -d -m 0700 /etc/secrets", f"(umask 077; echo {token.strip()} > /etc/secrets/enrolment-token)")
    for host in hosts:
        host.wait_until_succeeds(f"test -e /var/lib/federation-ca/certs/{host.name}/cert.pem")

with subtest("proxy, homeserver and its administrator come by themselves, also after a first start that fails"):
    vvt.wait_until_succeeds("test $(systemctl show -p NRestarts --value matrix-synapse.service) -gt 0")
    vvt.succeed("systemctl stop in-the-way.service")
    for host in hosts:
        host.wait_for_unit("federation-proxy.service")
        host.wait_for_unit("care-homeserver-admin.service")

with subtest("a room is shared, and what is said is on both sides"):
    tokens = {host.name: administrator(host, "http://127.0.0.1:8008") for host in hosts}

    def call(host, method, path, body=None):
        """The answer to the administrator's request at the own homeserver, by way of the own proxy."""
        return client(host, host.name, tokens[host.name], method, path, body)

    room = call(vvt, "POST", "/createRoom", {"preset": "private_chat", "invite": ["@admin:huisarts"]})["room_id"]
    at = quote(room, safe="")
    call(huisarts, "POST", f"/join/{at}?via=vvt", {})
    for host in hosts:
        message = {"msgtype": "m.text", "body": f"Van {host.name}"}
        call(host, "PUT", f"/rooms/{at}/send/m.room.message/1", message)

    def said(host):
        """The texts in the room, as a homeserver has them."""
        events = call(host, "GET", f"/rooms/{at}/messages?dir=b&limit=50")["chunk"]
        return {event["content"]["body"] for event in events if event["type"] == "m.room.message"}

    for host in hosts:
        retry(lambda _: said(host) == {"Van huisarts", "Van vvt"}, 60)

with subtest("a host that lost everything has it back from its copy"):
    vvt.succeed("systemctl start care-homeserver-backup.service")
    copy = "/var/backup/care-homeserver/" + vvt.succeed("ls /var/backup/care-homeserver").strip()
    secrets = ["form", "macaroon", "registration"]
    vvt.succeed(
        "systemctl stop matrix-synapse.service",
        "runuser -u matrix-synapse -- psql -c 'drop owned by current_user'",
        "rm /var/lib/matrix-synapse/homeserver.signing.key",
        *[f"rm /var/lib/care-homeserver/{secret}" for secret in secrets],
        # As docs/src/nix.md says.
        f"runuser -u matrix-synapse -- pg_restore --clean --if-exists --dbname matrix-synapse {copy}/homeserver.dump",
        f"install -m 0600 -o matrix-synapse -g matrix-synapse -t /var/lib/matrix-synapse {copy}/homeserver.signing.key",
        *[f"install -m 0600 -t /var/lib/care-homeserver {copy}/{secret}" for secret in secrets],
        "systemctl start matrix-synapse.service",
    )
    assert said(vvt) == {"Van huisarts", "Van vvt"}
    call(vvt, "PUT", f"/rooms/{at}/send/m.room.message/2", {"msgtype": "m.text", "body": "Terug"})
    retry(lambda _: "Terug" in said(huisarts), 60)

with subtest("Element knows its homeserver, and the bridge is there for programs on its host alone"):
    for host in hosts:
        settings = json.loads(host.succeed("curl --silent --fail http://127.0.0.1:8003/config.json"))
        assert settings["default_server_config"]["m.homeserver"]["base_url"] == f"https://{host.name}:8448", settings
        host.wait_until_succeeds("curl --silent --fail http://127.0.0.1:1235/healthz", timeout=120)
        host.succeed("curl --silent --fail http://127.0.0.1:1234/fhir/metadata")

with subtest("a registration with an address that the bridge no longer has is mended, and the homeserver hears of it"):
    registration = "/var/lib/fhir-bridge/registration.yaml"
    before = vvt.succeed(f"cat {registration}")
    vvt.succeed(f"sed -i 's|^url: .*|url: http://127.0.0.1:1299|' {registration}")
    last = invocation(vvt, "matrix-synapse.service")
    vvt.succeed("systemctl restart fhir-bridge-registration.service")
    assert vvt.succeed(f"cat {registration}") == before
    wait_until_up(vvt, {"matrix-synapse.service": last})

with subtest("the others reach what they need, and nothing else"):

    def reachable(port):
        """Whether a connection from one host to a port of the other comes about."""
        return huisarts.execute(f"timeout 2 bash -c '</dev/tcp/192.168.1.3/{port}'")[0] == 0

    found = {port for port in [443, 1234, 1235, 3128, 8003, 8008, 8448, 9448] if reachable(port)}
    assert found == {443, 8003, 8448}, found
