

def prove_one_host(inside):
    """What a network on one machine must do; `inside` runs a command in the container of an organisation."""
    organisations = {"apotheek": 8018, "huisarts": 8028, "vvt": 8038}

    with subtest("the proxy, and a homeserver of each organisation"):
        machine.wait_for_unit("federation-proxy.service", timeout=180)
        for name in organisations:
            retry(lambda _: inside(name, "systemctl is-active care-homeserver-admin.service")[0] == 0, 300)

    with subtest("federation works: the scenario of federation-lab"):
        target = [
            'certificate_authority = "/var/lib/federation-ca/ca.pem"',
            'egress = "10.231.83.1:3128"',
        ]
        for number, (name, port) in enumerate(organisations.items()):
            failed, secret = inside(name, "cat /var/lib/care-homeserver/registration")
            assert failed == 0, secret
            machine.succeed(f"(umask 077; printf %s {shlex.quote(secret.strip())} > /root/{name}.secret)")
            target += [
                f"[servers.{name}]",
                f'admin_address = "http://10.231.83.{10 + number}:{port}"',
                f'registration_secret_file = "/root/{name}.secret"',
            ]
        machine.succeed("cat > /root/target.toml <<'END'\n" + "\n".join(target) + "\nEND")
        print(machine.succeed("federation-lab verify --target /root/target.toml 2>&1", timeout=300))

    with subtest("Element is there and knows its homeserver"):
        machine.succeed("curl --silent --fail http://localhost:8003/ | grep -i element")
        machine.succeed("curl --silent --fail http://localhost:8003/config.json | grep vvt.localhost")

    with subtest("the bridge is on the host, where FHIR is, and its homeserver in a container knows it"):
        machine.wait_for_unit("fhir-bridge.service")
        machine.succeed("curl --silent --fail http://127.0.0.1:1234/fhir/metadata | grep CapabilityStatement")
        # Well when bridge and homeserver reach each other.
        machine.wait_until_succeeds("curl --silent --fail http://127.0.0.1:1235/healthz", timeout=120)
        said = machine.succeed("runuser -u fhir-bridge -- fhir-bridge --config /etc/fhir-bridge.toml check-config")
        assert "reach each other" in said, said
        _, registration = inside("vvt", "cat /var/lib/fhir-bridge/registration.yaml")
        assert registration.strip() == machine.succeed("cat /var/lib/fhir-bridge/registration.yaml").strip()

    with subtest("containers reach what they need of the host, and nothing else"):

        def reachable(port):
            """Whether a connection from a container to a port of the host comes about."""
            return inside("vvt", f"timeout 2 bash -c '</dev/tcp/10.231.83.1/{port}'")[0] == 0

        found = {port for port in [443, 1234, 1235, 3128, 8003, 8008, 8448, 9448] if reachable(port)}
        assert found == {443, 1234, 3128, 8003, 8448}, found
        # At the bridge's port there is the homeserver's interface alone.
        outcome, _ = inside("vvt", "curl --silent --fail --max-time 10 http://10.231.83.1:1234/fhir/metadata")
        assert outcome == 22, outcome
