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
    gateway.succeed("systemctl kill --signal=KILL federation-proxy.service")
    # Its sockets are systemd's: a connection made now waits for the new process.
    gateway.succeed("curl --silent --fail --max-time 20 --cacert /var/lib/federation-ca/ca.pem https://vvt:8448/_matrix/client/versions")
    say("huisarts", "after-the-proxy")
    wait_until_heard("apotheek")

with subtest("a killed homeserver is back, with everything it confirmed"):
    say("vvt", "confirmed")
    vvt_host.succeed("systemctl kill --signal=KILL matrix-synapse.service")
    say("apotheek", "while-vvt-was-dead")
    vvt_host.wait_for_unit("matrix-synapse.service", timeout=90)
    vvt_host.wait_for_open_port(8038, "vvt-host")
    say("vvt", "alive-again")
    for name in names:
        wait_until_heard(name)

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
