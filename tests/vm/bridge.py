homeservers = [apotheek_host, huisarts_host, vvt_host]
anna = "@tester:huisarts"


def as_anna(method, path, body=None):
    """A request of Anna at her own homeserver."""
    return client(gateway, "huisarts", token, method, path, body)


def messages():
    """Sender and text of every message in the conversation as Anna's homeserver has it, in order."""
    timeline = as_anna("GET", f"/rooms/{room}/messages?dir=b&limit=100")["chunk"]
    found = [(event["sender"], event["content"]["body"]) for event in timeline if event["type"] == "m.room.message"]
    return found[::-1]


def answer(text):
    """Anna says something in the conversation; the answer is the event's id."""
    body = {"msgtype": "m.text", "body": text}
    return as_anna("PUT", f"/rooms/{room}/send/m.room.message/{quote(text, safe='')}", body)["event_id"]


start_all()

with subtest("the bridge is up before its homeserver, and takes what is written to FHIR"):
    vvt_host.wait_for_unit("fhir-bridge.service")
    assert vvt_host.get_unit_property("matrix-synapse.service", "ActiveState") == "inactive"
    assert vvt_host.get_unit_property("fhir-bridge.service", "Type") == "notify"
    assert vvt_host.get_unit_property("fhir-bridge.service", "WatchdogUSec") == "30s"
    assert vvt_host.succeed("stat -c '%U %a' /var/lib/fhir-bridge/registration.yaml") == "fhir-bridge 600\n"
    assert "homeserver" in vvt_host.succeed("curl --silent http://127.0.0.1:1235/healthz")
    put_people(vvt_host, anna)

with subtest("its homeserver knows it, and nobody had to tell"):
    registration = vvt_host.succeed("sha256sum /var/lib/fhir-bridge/registration.yaml")
    hand_out_ca(gateway, homeservers)
    wait_for_network(gateway, homeservers)
    vvt_host.wait_until_succeeds("curl --silent --fail http://127.0.0.1:1235/healthz", timeout=60)
    operator = "runuser -u fhir-bridge -- fhir-bridge --config /etc/fhir-bridge.toml"
    said = vvt_host.succeed(f"{operator} check-config")
    assert "reach each other" in said, said
    token = register(huisarts_host, "http://huisarts-host:8028")

with subtest("a CareTeam is a space, a CommunicationRequest a room in it, for a user of another homeserver"):
    put_conversation(vvt_host)
    space = join_alias(gateway, "huisarts", token, "careteam-team1")
    room = join_alias(gateway, "huisarts", token, "communicationrequest-t1")
    created = as_anna("GET", f"/rooms/{space}/state/m.room.create")
    assert created["type"] == "m.space", created
    as_anna("GET", f"/rooms/{space}/state/m.space.child/{room}")

with subtest("a Communication is a message that she reads"):
    communication(vvt_host, "m1", "Het gaat goed.")
    ghost = "@_fhir_bridge_relatedperson-_kees:vvt"
    expected = [(ghost, "Hoe gaat het met moeder?"), (ghost, "Het gaat goed.")]
    retry(lambda _: messages() == expected, 60)

with subtest("her answer is a Communication"):
    event = answer("Fijn, dank!")
    retry(lambda _: "Fijn, dank!" in map(text_of, communications(vvt_host)), 60)
    [written] = [resource for resource in communications(vvt_host) if text_of(resource) == "Fijn, dank!"]
    assert written["sender"]["reference"] == "Practitioner/Anna", written
    assert {"system": "https://matrix.org/event-id", "value": event} in written["identifier"], written

with subtest("a bridge that was killed comes back, and what was said meanwhile arrives once"):
    vvt_host.succeed("systemctl kill --signal=KILL fhir-bridge.service")
    answer("Tot morgen.")
    vvt_host.wait_for_unit("fhir-bridge.service")
    vvt_host.wait_until_succeeds("curl --silent --fail http://127.0.0.1:1235/healthz", timeout=60)
    communication(vvt_host, "m2", "Dag Anna.")
    retry(lambda _: "Tot morgen." in map(text_of, communications(vvt_host)), 60)
    retry(lambda _: messages()[-1] == (ghost, "Dag Anna."), 60)
    assert [text_of(resource) for resource in communications(vvt_host)].count("Tot morgen.") == 1
    assert [text for _, text in messages()].count("Dag Anna.") == 1

with subtest("the registration is kept, and both sides agree"):
    vvt_host.succeed("systemctl restart fhir-bridge-registration.service")
    vvt_host.wait_until_succeeds("curl --silent --fail http://127.0.0.1:1235/healthz", timeout=90)
    assert vvt_host.succeed("sha256sum /var/lib/fhir-bridge/registration.yaml") == registration
    compared = vvt_host.succeed(f"{operator} reconcile --dry-run")
    assert " 0 differences" in compared, compared

with subtest("the log says nothing of what was said or whom it is about"):
    logged = vvt_host.succeed("journalctl -u fhir-bridge.service --no-pager")
    assert "serving" in logged
    for private in ["Kanarie", "Hoe gaat het", "Fijn, dank", "Tot morgen"]:
        assert private not in logged, f"the log has {private}"
