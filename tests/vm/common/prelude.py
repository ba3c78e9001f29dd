import json
import re
import shlex
from urllib.parse import quote

def hand_out_ca(gateway, homeservers):
    """Copies the CA's certificate from the gateway to the homeservers, as an operator does."""
    gateway.wait_for_unit("federation-ca.service", timeout=90)
    certificate = gateway.succeed("cat /var/lib/federation-ca/ca.pem")
    for homeserver in homeservers:
        homeserver.succeed(
            "mkdir -p /etc/care-federation",
            f"cat > /etc/care-federation/ca.pem <<'END'\n{certificate}END",
        )


def wait_for_network(gateway, homeservers):
    """Until the proxy and the homeservers serve."""
    gateway.wait_for_unit("federation-proxy.service", timeout=90)
    for homeserver in homeservers:
        homeserver.wait_for_unit("matrix-synapse.service", timeout=90)
        homeserver.wait_for_unit("care-homeserver-admin.service", timeout=90)


def write_target(gateway, homeservers):
    """Describes the network to `federation-lab verify`, which runs on the gateway: /root/target.toml."""
    settings = json.loads(gateway.succeed("cat /etc/care-federation-test.json"))
    target = [
        'certificate_authority = "/var/lib/federation-ca/ca.pem"',
        f'egress = "{settings["egress"]}"',
    ]
    for homeserver in homeservers:
        name = homeserver.name.removesuffix("-host")
        secret = homeserver.succeed("cat /var/lib/care-homeserver/registration")
        gateway.succeed(f"(umask 077; echo {secret} > /root/{name}.secret)")
        target += [
            f"[servers.{name}]",
            f'admin_address = "{settings["homeservers"][name]}"',
            f'registration_secret_file = "/root/{name}.secret"',
        ]
    target += [
        "[stranger]",
        f'synapse = ["{settings["synapse"]}"]',
        'certificate = "/var/lib/federation-ca/certs/vvt/cert.pem"',
        'key = "/var/lib/federation-ca/certs/vvt/key.pem"',
    ]
    gateway.succeed("cat > /root/target.toml <<'END'\n" + "\n".join(target) + "\nEND")


def register(homeserver, address):
    """Makes a user on a homeserver; the answer is its access token."""
    homeserver.succeed(
        "(umask 077; echo only-for-the-test > /root/password)",
        "matrix-synapse-register_new_matrix_user -u tester --no-admin --password-file /root/password",
    )
    return log_in(homeserver, address, "tester", "only-for-the-test")


def administrator(homeserver, address):
    """The access token of the administrator whom the module made."""
    password = homeserver.succeed("cat /var/lib/care-homeserver-admin/password").strip()
    return log_in(homeserver, address, "admin", password)


def log_in(homeserver, address, user, password):
    """The access token of a user."""
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
    }
    answer = homeserver.succeed(
        f"curl --silent --fail {address}/_matrix/client/v3/login -d {shlex.quote(json.dumps(login))}"
    )
    return json.loads(answer)["access_token"]


def request(machine, server, token, method, path, body, options):
    """A client's request through the proxy, as seen by curl."""
    command = ["curl", "--silent", "--max-time", "60", "--cacert", "/var/lib/federation-ca/ca.pem", "-X", method]
    command += ["-H", f"Authorization: Bearer {token}", *options]
    if body is not None:
        command += ["-d", json.dumps(body)]
    return machine.succeed(shlex.join([*command, f"https://{server}:8448/_matrix/client/v3{path}"]))


def client(machine, server, token, method, path, body=None):
    """The answer to a client's request, which must succeed."""
    return json.loads(request(machine, server, token, method, path, body, ["--fail-with-body"]))


def status(machine, server, token, method, path, body=None):
    """The status of the answer to a client's request."""
    return int(request(machine, server, token, method, path, body, ["-o", "/dev/null", "-w", "%{http_code}"]))


def fhir(machine, method, path, resource=None):
    """The answer of the FHIR endpoint of the bridge on a machine, which must succeed."""
    command = ["curl", "--silent", "--fail-with-body", "--max-time", "30", "-X", method]
    if resource is not None:
        command += ["-H", "Content-Type: application/fhir+json", "-d", json.dumps(resource)]
    return json.loads(machine.succeed(shlex.join([*command, f"http://127.0.0.1:1234/fhir/{path}"])))


def put(machine, kind, resource_id, **content):
    """Writes a resource."""
    fhir(machine, "PUT", f"{kind}/{resource_id}", {"resourceType": kind, "id": resource_id, **content})


def reference(target):
    """A reference to a resource."""
    return {"reference": target}


def put_people(machine, matrix_id):
    """A patient; Anna, a practitioner who is reached by a Matrix id; and Kees, a relative of the patient."""
    purpose = "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose"
    matrix = {
        "system": "other",
        "value": matrix_id,
        "extension": [{"url": purpose, "valueString": "matrix-messaging"}],
    }
    put(machine, "Patient", "p1", name=[{"family": "Kanarie"}])
    put(machine, "Practitioner", "Anna", name=[{"text": "Anna de Arts"}], telecom=[matrix])
    put(machine, "RelatedPerson", "Kees", patient=reference("Patient/p1"), name=[{"text": "Kees Groot"}])


def put_conversation(machine):
    """A care team of Anna and Kees, and a conversation that Kees asks for."""
    put(
        machine,
        "CareTeam",
        "team1",
        status="active",
        subject=reference("Patient/p1"),
        participant=[{"member": reference(member)} for member in ["Practitioner/Anna", "RelatedPerson/Kees"]],
    )
    put(
        machine,
        "CommunicationRequest",
        "t1",
        status="active",
        subject=reference("Patient/p1"),
        requester=reference("RelatedPerson/Kees"),
        recipient=[reference("CareTeam/team1")],
        payload=[{"contentString": "Hoe gaat het met moeder?"}],
    )


def communication(machine, resource_id, text):
    """Kees says something in the conversation, in FHIR."""
    put(
        machine,
        "Communication",
        resource_id,
        status="completed",
        sent="2025-12-24T18:30:00.000Z",
        partOf=[reference("CommunicationRequest/t1")],
        sender=reference("RelatedPerson/Kees"),
        payload=[{"contentString": text}],
    )


def communications(machine):
    """What was said in the conversation, as FHIR has it."""
    found = fhir(machine, "GET", "Communication?part-of=CommunicationRequest/t1&_count=100")
    return [entry["resource"] for entry in found.get("entry", [])]


def text_of(resource):
    """The text of a Communication."""
    return resource["payload"][0]["contentString"]


def join_alias(machine, server, token, alias):
    """Accepts the invitation to what has this alias of the bridge at vvt; the answer is its room id."""
    path = f"/directory/room/{quote(f'#_fhir_bridge_{alias}:vvt', safe='')}"
    retry(lambda _: status(machine, server, token, "GET", path) == 200, 60)
    found = quote(client(machine, server, token, "GET", path)["room_id"], safe="")
    retry(lambda _: status(machine, server, token, "POST", f"/join/{found}?via=vvt", {}) == 200, 60)
    return found


def exposure(machine, unit):
    """How `systemd-analyze security` rates a unit: 0 is best, 10 worst."""
    rated = machine.succeed(f"systemd-analyze security --no-pager {unit} | tail -n 1")
    found = re.search(r"exposure level for \S+: ([0-9.]+)", rated)
    assert found, rated
    return float(found.group(1))


def invocation(machine, unit):
    """What systemd calls this run of a unit; each start has another."""
    return machine.succeed(f"systemctl show --property=InvocationID --value {unit}").strip()


def kill(machine, *units):
    """Ends all processes of units, as the kernel does when there is no memory left. The answer is for `wait_until_up`."""
    before = {unit: invocation(machine, unit) for unit in units}
    machine.succeed("systemctl kill --signal=KILL " + " ".join(units))
    return before


def wait_until_up(machine, before):
    """Until killed units are there again by themselves."""
    for unit, last in before.items():
        machine.wait_until_succeeds(
            f"systemctl is-active {unit} && test $(systemctl show --property=InvocationID --value {unit}) != {last}",
            timeout=120,
        )


