left = "/etc/previous-release"
bridge = "runuser -u fhir-bridge -- fhir-bridge --config /etc/fhir-bridge.toml"
authority = "runuser -u federation-ca -- federation-ca --dir /var/lib/federation-ca"
names = ["apotheek", "huisarts", "vvt"]


def lines(text):
    """What the lines of JSON say, in any order."""
    return {json.dumps(json.loads(line), sort_keys=True) for line in text.splitlines()}


def messages():
    """The events of each resource that is a message, as the bridge knows them."""
    known = [json.loads(line) for line in host.succeed(f"{bridge} export").splitlines()]
    return {line["message"]["resource"]: line["message"] for line in known if "message" in line}


def said(message):
    """The text of a message as the homeserver has it, which the bridge may read."""
    room, event = (message[key].replace("!", "%21").replace("$", "%24") for key in ["room_id", "event_id"])
    token = "$(sed -n 's/^as_token: //p' /var/lib/fhir-bridge/registration.yaml)"
    answer = host.succeed(
        f'curl --silent --fail-with-body -H "Authorization: Bearer {token}"'
        f" 'http://127.0.0.1:8008/_matrix/client/v3/rooms/{room}/event/{event}?user_id=@_fhir:vvt'"
    )
    return json.loads(answer)["content"]["body"]


host.start()

with subtest("the CA keeps its identity and what it issued"):
    host.wait_for_unit("federation-ca.service")
    host.succeed(*(f"cmp {left}/ca/{file} /var/lib/federation-ca/{file}" for file in ["ca.pem", "ca.key"]))
    shown = host.succeed(f"{authority} show")
    for name in names:
        assert name in shown, shown
        host.succeed(
            f"openssl verify -CAfile {left}/ca/ca.pem -verify_hostname {name}"
            f" /var/lib/federation-ca/certs/{name}/cert.pem"
        )

with subtest("the CA renews and revokes"):
    before = host.succeed("openssl x509 -noout -serial -in /var/lib/federation-ca/certs/vvt/cert.pem")
    host.succeed(f"{authority} renew --force vvt")
    after = host.succeed("openssl x509 -noout -serial -in /var/lib/federation-ca/certs/vvt/cert.pem")
    assert after != before
    host.succeed(f"openssl verify -CAfile {left}/ca/ca.pem /var/lib/federation-ca/certs/vvt/cert.pem")
    host.succeed(f"{authority} revoke huisarts")
    old = host.succeed(f"openssl x509 -noout -serial -in {left}/ca/certs/huisarts/cert.pem").strip().removeprefix("serial=")
    host.succeed(f"openssl crl -in /var/lib/federation-ca/crl.pem -noout -text | grep -i {old}")

with subtest("the bridge takes over registration, rooms, messages, and every version of every resource"):
    host.wait_for_unit("fhir-bridge.service")
    host.succeed(f"cmp {left}/registration.yaml /var/lib/fhir-bridge/registration.yaml")
    missing = lines(host.succeed(f"cat {left}/export.jsonl")) - lines(host.succeed(f"{bridge} export"))
    assert not missing, missing

with subtest("FHIR serves what was stored"):
    found = json.loads(host.succeed("curl --silent --fail 'http://127.0.0.1:1234/fhir/Communication?_count=100'"))
    stored = [json.loads(line) for line in host.succeed(f"cat {left}/export.jsonl").splitlines()]
    expected = {
        line["resource"]["id"]
        for line in stored
        if line.get("resource", {}).get("resourceType") == "Communication"
    }
    served = {entry["resource"]["id"] for entry in found["entry"]}
    assert expected and expected <= served, expected - served

with subtest("what waited for a homeserver is said now, once"):
    host.wait_for_unit("care-homeserver-admin.service", timeout=90)
    waited = ["CommunicationRequest/waiting", "Communication/waiting"]
    retry(lambda _: set(waited) <= set(messages()), 60)
    texts = [said(messages()[resource]) for resource in waited]
    assert texts == ["Before the upgrade.", "Sent before, to be read after."], texts
    print(host.succeed(f"{bridge} status"))

with subtest("a second start changes nothing"):
    before = messages()
    host.succeed("systemctl restart fhir-bridge.service federation-ca.service")
    host.wait_for_unit("fhir-bridge.service")
    assert messages() == before
    host.succeed(f"cmp {left}/ca/ca.pem /var/lib/federation-ca/ca.pem")
