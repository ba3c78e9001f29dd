organisations = {"apotheek": 8018, "huisarts": 8028, "vvt": 8038}
machine.start()

with subtest("CA, proxy and a container for each homeserver"):
    machine.wait_for_unit("federation-proxy.service", timeout=180)
    for name in organisations:
        machine.wait_for_unit(f"container@{name}.service", timeout=300)
        machine.wait_until_succeeds(
            f"nixos-container run {name} -- systemctl is-active care-homeserver-admin.service", timeout=300
        )

with subtest("federation works: the scenario of federation-lab"):
    target = [
        'certificate_authority = "/var/lib/federation-ca/ca.pem"',
        'egress = "10.231.83.1:3128"',
    ]
    for number, (name, port) in enumerate(organisations.items()):
        machine.succeed(
            f"(umask 077; nixos-container run {name} -- cat /var/lib/care-homeserver/registration > /root/{name}.secret)"
        )
        target += [
            f"[servers.{name}]",
            f'admin_address = "http://10.231.83.{10 + number}:{port}"',
            f'registration_secret_file = "/root/{name}.secret"',
        ]
    machine.succeed("cat > /root/target.toml <<'END'\n" + "\n".join(target) + "\nEND")
    print(machine.succeed("federation-lab verify --target /root/target.toml 2>&1", timeout=300))

with subtest("Element is there and knows its homeserver"):
    machine.succeed("curl --silent --fail http://localhost:8003/ | grep -i '<html'")
    machine.succeed("curl --silent --fail http://localhost:8003/config.json | grep vvt.localhost")

with subtest("the bridge is on the host, where FHIR is, and its homeserver in a container knows it"):
    machine.wait_for_unit("fhir-bridge.service")
    machine.succeed("curl --silent --fail http://127.0.0.1:1234/fhir/metadata | grep CapabilityStatement")
    # Well when bridge and homeserver reach each other.
    machine.wait_until_succeeds("curl --silent --fail http://127.0.0.1:1235/healthz", timeout=120)
    said = machine.succeed("runuser -u fhir-bridge -- fhir-bridge --config /etc/fhir-bridge.toml check-config")
    assert "reach each other" in said, said
    inside = "nixos-container run vvt -- "
    machine.succeed(f"cmp <({inside} cat /var/lib/fhir-bridge/registration.yaml) /var/lib/fhir-bridge/registration.yaml")
    machine.fail(f"{inside} curl --silent --fail --max-time 10 http://10.231.83.1:1234/fhir/metadata")
