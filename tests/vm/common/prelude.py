import json
import shlex

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
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": "tester"},
        "password": "only-for-the-test",
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


