homeservers = [apotheek_host, huisarts_host, vvt_host]
start_all()
hand_out_ca(gateway, homeservers)


with subtest("no unit may do more than it must"):
    units = [
        (gateway, "federation-ca.service"),
        (gateway, "federation-ca-renew.service"),
        (gateway, "federation-ca-est.service"),
        (gateway, "federation-proxy.service"),
        (vvt_host, "care-homeserver-secrets.service"),
        (vvt_host, "care-homeserver-admin.service"),
        (vvt_host, "care-homeserver-backup.service"),
        (vvt_host, "fhir-bridge.service"),
        (vvt_host, "fhir-bridge-registration.service"),
    ]
    ratings = {unit: exposure(machine, unit) for machine, unit in units}
    assert all(rating <= 1.5 for rating in ratings.values()), ratings
    print(f"exposure by systemd-analyze security: {ratings}")

with subtest("nothing listens but what is declared"):

    def ports(machine):
        """The TCP ports that wait for connections on any address."""
        lines = machine.succeed("ss --no-header --listening --tcp --numeric").splitlines()
        return {int(line.split()[3].rsplit(":", 1)[1]) for line in lines}

    wait_for_network(gateway, homeservers)
    assert ports(gateway) == {443, 3128, 8003, 8008, 8448, 8449, 9448}, ports(gateway)
    vvt_host.wait_for_unit("fhir-bridge.service")
    assert ports(vvt_host) == {1234, 1235, 8038}, ports(vvt_host)

with subtest("private listeners cannot be reached from another host"):

    def reachable(port):
        """Whether a connection from another host to a port of the gateway comes about."""
        return vvt_host.execute(f"timeout 2 bash -c '</dev/tcp/gateway/{port}'")[0] == 0

    found = {port for port in [443, 3128, 8003, 8008, 8448, 8449, 9448] if reachable(port)}
    assert found == {443, 3128, 8003, 8448}, found

with subtest("secrets are in no configuration, no argument and no environment"):
    # A line each: registration, macaroon, form, the administrator's password, and both tokens of the bridge.
    vvt_host.succeed(
        "{ for file in /var/lib/care-homeserver/* /var/lib/care-homeserver-admin/password; do cat $file; echo; done;"
        " grep -oP '^[ah]s_token: \\K.*' /var/lib/fhir-bridge/registration.yaml; } | grep . > /root/secrets"
    )
    assert vvt_host.succeed("wc -l < /root/secrets") == "6\n"
    # Each search is first seen to find what is there.
    searches = [
        # -R follows the links of /etc into the store: units and their scripts.
        ("matrix-synapse", "grep -RhF {} /etc/systemd/system"),
        # Synapse's settings, which its unit names.
        (
            "federation_custom_ca_list",
            "cat $(systemctl cat matrix-synapse.service | grep -o '/nix/store/[^ ]*yaml' | sort -u) | grep -F {}",
        ),
        ("synapse_homeserver", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -aF {}"),
        ("LISTEN_FDS=", "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -aF {}"),
    ]
    for present, search in searches:
        machine = gateway if present == "LISTEN_FDS=" else vvt_host
        machine.succeed(search.format(present) + " >/dev/null")
        vvt_host.fail(search.format("-f /root/secrets"))

with subtest("secrets are for their owners alone"):
    for path in ["care-homeserver/registration", "care-homeserver-admin/password", "fhir-bridge/registration.yaml"]:
        vvt_host.fail(f"runuser -u nobody -- cat /var/lib/{path}")
        vvt_host.succeed(f"test $(stat -L -c %a /var/lib/{path}) = 600")

with subtest("a copy of keys and database is made, and old ones go"):
    for _ in range(9):
        # More often than systemd allows by itself.
        vvt_host.succeed(
            "systemctl reset-failed care-homeserver-backup.service; systemctl start care-homeserver-backup.service"
        )
    copies = vvt_host.succeed("ls /var/backup/care-homeserver").split()
    assert len(copies) == 7, copies
    newest = f"/var/backup/care-homeserver/{copies[-1]}"
    vvt_host.succeed(
        f"cmp {newest}/homeserver.signing.key /var/lib/matrix-synapse/homeserver.signing.key",
        f"cmp {newest}/registration /var/lib/care-homeserver/registration",
        f"sqlite3 {newest}/homeserver.db 'select name from users' | grep '@admin:vvt'",
    )
