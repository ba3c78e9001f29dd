homeservers = [apotheek_host, huisarts_host, vvt_host]
names = ["apotheek", "huisarts", "vvt"]
start_all()
hand_out_ca(gateway, homeservers)
wait_for_network(gateway, homeservers)

said: list[str] = []


def say(server, text):
    """Says something in the room; the server has confirmed it when this returns."""
    body = {"msgtype": "m.text", "body": text}
    client(gateway, server, tokens[server], "PUT", f"/rooms/{room}/send/m.room.message/{text}", body)
    said.append(text)


def wait_until_heard(server):
    """Until everything that was ever said is in the room as this server sees it, each once."""

    def heard(_):
        found = client(gateway, server, tokens[server], "GET", f"/rooms/{room}/messages?dir=b&limit=100")
        texts = [event["content"]["body"] for event in found["chunk"] if event["type"] == "m.room.message"]
        return sorted(texts) == sorted(said)

    retry(heard, 60)


with subtest("a room across the network"):
    tokens = {
        name: register(homeserver, f"http://{homeserver.name}:{port}")
        for name, homeserver, port in zip(names, homeservers, [8018, 8028, 8038])
    }
    others = ["@tester:apotheek", "@tester:huisarts"]
    room = client(gateway, "vvt", tokens["vvt"], "POST", "/createRoom", {"preset": "private_chat", "invite": others})["room_id"]
    for name in ["apotheek", "huisarts"]:
        retry(lambda _, name=name: status(gateway, name, tokens[name], "POST", f"/join/{room}", {}) == 200, 30)
    say("vvt", "before")
    for name in names:
        wait_until_heard(name)

with subtest("a killed proxy is back at once, and so is the traffic"):
    kill(gateway, "federation-proxy.service")
    # Its sockets are systemd's: a connection made now waits for the new process.
    gateway.succeed("curl --silent --fail --max-time 20 --cacert /var/lib/federation-ca/ca.pem https://vvt:8448/_matrix/client/versions")
    say("huisarts", "after-the-proxy")
    wait_until_heard("apotheek")

with subtest("a killed homeserver is back, with everything it confirmed"):
    for name, homeserver in zip(names, homeservers):
        say(name, f"confirmed-by-{name}")
        killed = kill(homeserver, "matrix-synapse.service")
        say("huisarts" if name == "apotheek" else "apotheek", f"while-{name}-was-dead")
        wait_until_up(homeserver, killed)
        say(name, f"{name}-is-alive-again")
    for name in names:
        wait_until_heard(name)

with subtest("a killed PostgreSQL is back, and its homeserver goes on"):
    say("vvt", "before-the-database")
    killed = kill(vvt_host, "postgresql.service")
    say("apotheek", "while-the-database-was-dead")
    wait_until_up(vvt_host, killed)
    retry(lambda _: status(gateway, "vvt", tokens["vvt"], "GET", "/joined_rooms") == 200, 60)
    say("vvt", "after-the-database")
    for name in names:
        wait_until_heard(name)

with subtest("a killed enrolment server is back at once"):
    kill(gateway, "federation-ca-est.service")
    # Its socket is systemd's too.
    gateway.succeed(
        "curl --silent --fail --max-time 20 --cacert /var/lib/federation-ca/ca.pem --resolve ca:8449:127.0.0.1"
        " https://ca:8449/.well-known/est/cacerts >/dev/null"
    )

with subtest("a CA that is killed while it renews leaves a certificate with its own key, and renews afterwards"):
    pair = "/var/lib/federation-ca/certs/vvt"
    renew = "runuser -u federation-ca -g federation-ca -G federation-proxy -- federation-ca --dir /var/lib/federation-ca renew --force vvt"
    for number in range(20):
        gateway.execute(f"timeout --signal=KILL {0.004 * (number + 1):.3f} {renew}")
        gateway.succeed(
            f"cmp <(openssl x509 -noout -pubkey -in {pair}/cert.pem) <(openssl pkey -pubout -in {pair}/key.pem)"
        )
    gateway.succeed(renew, "systemctl start federation-ca-renew.service", "systemctl restart federation-ca.service")
    gateway.succeed(f"openssl verify -CAfile /var/lib/federation-ca/ca.pem {pair}/cert.pem")
    say("vvt", "after-the-authority")
    for name in names:
        wait_until_heard(name)

posted: list[str] = ["Hoe gaat het met moeder?"]


def post(number):
    """Kees says something in FHIR until that is confirmed, as a careful client does: again under the same id."""
    text = f"Bericht {number} van Kees."

    def confirmed(_):
        body = {
            "resourceType": "Communication",
            "id": f"m{number}",
            "status": "completed",
            "sent": "2025-12-24T18:30:00.000Z",
            "partOf": [reference("CommunicationRequest/t1")],
            "sender": reference("RelatedPerson/Kees"),
            "payload": [{"contentString": text}],
        }
        command = ["curl", "--silent", "--fail", "--max-time", "10", "-X", "PUT", "-d", json.dumps(body)]
        command += ["-H", "Content-Type: application/fhir+json", f"http://127.0.0.1:1234/fhir/Communication/m{number}"]
        return vvt_host.execute(shlex.join(command))[0] == 0

    retry(confirmed, 60)
    posted.append(text)


def answer(text):
    """Anna says something in the conversation, from her own homeserver."""
    body = {"msgtype": "m.text", "body": text}
    path = f"/rooms/{conversation}/send/m.room.message/{quote(text, safe='')}"
    client(gateway, "huisarts", tokens["huisarts"], "PUT", path, body)
    posted.append(text)


def wait_until_on_both_sides():
    """Until everything said in the conversation is in Anna's room and in FHIR, each once."""

    def in_matrix():
        path = f"/rooms/{conversation}/messages?dir=b&limit=100"
        found = client(gateway, "huisarts", tokens["huisarts"], "GET", path)["chunk"]
        return sorted(event["content"]["body"] for event in found if event["type"] == "m.room.message")

    def in_fhir():
        # The first message is that of the request itself.
        return sorted([posted[0], *map(text_of, communications(vvt_host))])

    retry(lambda _: in_matrix() == sorted(posted), 90)
    retry(lambda _: in_fhir() == sorted(posted), 90)


bridge_and_homeserver = ["fhir-bridge.service", "matrix-synapse.service"]

with subtest("a care team's conversation"):
    vvt_host.wait_for_unit("fhir-bridge.service")
    put_people(vvt_host, "@tester:huisarts")
    put_conversation(vvt_host)
    join_alias(gateway, "huisarts", tokens["huisarts"], "careteam-team1")
    conversation = join_alias(gateway, "huisarts", tokens["huisarts"], "communicationrequest-t1")
    wait_until_on_both_sides()

for number, units in enumerate(
    [
        ["fhir-bridge.service"],
        ["matrix-synapse.service"],
        bridge_and_homeserver,
        [*bridge_and_homeserver, "postgresql.service"],
    ]
):
    with subtest(f"what is posted around the death of {', '.join(units)} arrives once"):
        post(3 * number)
        answer(f"Antwoord {number} voor de klap.")
        killed = kill(vvt_host, *units)
        post(3 * number + 1)
        answer(f"Antwoord {number} na de klap.")
        wait_until_up(vvt_host, killed)
        post(3 * number + 2)
        wait_until_on_both_sides()

with subtest("the bridge knows of nothing left to do"):
    told = "runuser -u fhir-bridge -- fhir-bridge --config /etc/fhir-bridge.toml"
    compared = vvt_host.succeed(f"{told} reconcile --dry-run")
    assert " 0 differences" in compared, compared

with subtest("a homeserver that was cut off catches up"):
    huisarts_host.block()
    say("vvt", "while-huisarts-was-away-1")
    say("apotheek", "while-huisarts-was-away-2")
    huisarts_host.unblock()
    for name in names:
        wait_until_heard(name)

with subtest("a machine that lost its power comes back with its rooms"):
    say("vvt", "before-the-crash")
    vvt_host.succeed("sync")
    vvt_host.crash()
    say("huisarts", "while-vvt-was-off")
    vvt_host.start()
    vvt_host.wait_for_unit("matrix-synapse.service", timeout=90)
    vvt_host.wait_for_open_port(8038, "vvt-host")
    for name in names:
        wait_until_heard(name)

with subtest("the gateway restarts with the CA and the certificates that it had"):
    authority = gateway.succeed("sha256sum /var/lib/federation-ca/ca.pem")
    gateway.shutdown()
    gateway.start()
    gateway.wait_for_unit("federation-proxy.service", timeout=90)
    assert gateway.succeed("sha256sum /var/lib/federation-ca/ca.pem") == authority
    say("apotheek", "after-the-gateway")
    for name in names:
        wait_until_heard(name)
