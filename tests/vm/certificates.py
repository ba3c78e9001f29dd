homeservers = [apotheek_host, huisarts_host, vvt_host]
pairs = "/var/lib/federation-ca/certs"


def serial(machine, name):
    """The serial number of the certificate that lies in a pair."""
    return machine.succeed(f"openssl x509 -noout -serial -in {pairs}/{name}/cert.pem").strip()


def new_token(name):
    """A one-time token with which a host may enrol for a name."""
    said = gateway.succeed(f"runuser -u federation-ca -- federation-ca --dir /var/lib/federation-ca token {name}")
    return said.strip()


gateway.start()
newcomer.start()

with subtest("the CA is made once and kept"):
    gateway.wait_for_unit("federation-ca.service")
    before = gateway.succeed(f"cat /var/lib/federation-ca/ca.pem {pairs}/*/cert.pem")
    gateway.succeed("systemctl restart federation-ca.service")
    assert gateway.succeed(f"cat /var/lib/federation-ca/ca.pem {pairs}/*/cert.pem") == before

with subtest("a service hears of a certificate that the CA's start issues anew"):
    gateway.wait_for_unit("uses-certificate.service")
    gateway.wait_for_file("/run/federation-ca-reload/uses-certificate.service")
    gateway.succeed(
        "rm -f /run/uses-certificate-reloaded",
        "systemctl restart federation-ca.service",
        "runuser -u federation-ca -- federation-ca --dir /var/lib/federation-ca revoke beside",
    )
    gateway.fail("test -e /run/uses-certificate-reloaded")
    gateway.succeed("systemctl restart federation-ca.service")
    gateway.wait_until_succeeds("test -e /run/uses-certificate-reloaded")

with subtest("keys are for their groups alone"):
    assert gateway.succeed(f"stat -L -c '%U:%G %a' {pairs}/vvt/key.pem") == "federation-ca:federation-proxy 640\n"
    assert gateway.succeed("stat -c '%U:%G %a' /var/lib/federation-ca/ca.key") == "federation-ca:federation-ca 600\n"
    gateway.fail("runuser -u nobody -- cat /var/lib/federation-ca/ca.key")
    gateway.fail(f"runuser -u nobody -- cat {pairs}/vvt/key.pem")
    gateway.succeed("runuser -u nobody -- cat /var/lib/federation-ca/ca.pem")

with subtest("a new host enrols with a one-time token; its key never leaves it"):
    hand_out_ca(gateway, [newcomer])
    gateway.wait_for_unit("federation-ca-est.service")
    token = new_token("newcomer")
    newcomer.succeed("install -d -m 0700 /etc/secrets", f"(umask 077; echo {token} > /etc/secrets/enrolment-token)")
    newcomer.fail("systemctl restart federation-ca-client.service")
    newcomer.succeed(f"openssl verify -CAfile /etc/care-federation/ca.pem {pairs}/newcomer/cert.pem")
    assert newcomer.succeed(f"stat -L -c '%U:%G %a' {pairs}/newcomer/key.pem") == "federation-ca:users 640\n"
    gateway.fail(f"test -e {pairs}/newcomer/key.pem")

with subtest("what fails for one name keeps no service from hearing of another's certificate"):
    newcomer.wait_until_succeeds("test -e /run/uses-certificate-reloaded")
    newcomer.fail(f"test -e {pairs}/later")
    newcomer.succeed(f"(umask 077; echo {new_token('later')} > /etc/secrets/later-token)")
    newcomer.succeed("systemctl restart federation-ca-client.service", f"test -e {pairs}/later/cert.pem")

with subtest("it renews with its certificate, without the token, and its services hear of it"):
    first = serial(newcomer, "newcomer")
    newcomer.succeed("rm /etc/secrets/enrolment-token", "systemctl start federation-ca-client.service")
    assert serial(newcomer, "newcomer") == first, "renewed although it was not due"
    # Whoever tells the service of the new certificate may do so at once.
    newcomer.succeed(
        "rm /run/uses-certificate-reloaded",
        "runuser -u federation-ca -g federation-ca -G users -- federation-ca --dir /var/lib/federation-ca"
        " enrol newcomer --server https://ca:8449 --group users --force",
    )
    assert serial(newcomer, "newcomer") != first
    newcomer.succeed("systemctl start federation-ca-client.service")
    newcomer.wait_until_succeeds("test -e /run/uses-certificate-reloaded")

with subtest("a unit that cannot reload keeps no other from hearing, is named, and is told again until it has heard"):
    newcomer.wait_until_succeeds("journalctl -u federation-ca-reload.service | grep 'stubborn.service could not be told'")
    newcomer.fail("test -e /run/stubborn-reloaded")
    newcomer.succeed("rm /run/uses-certificate-reloaded", "touch /run/allowed")
    newcomer.wait_until_succeeds("test -e /run/stubborn-reloaded")
    newcomer.wait_until_succeeds("systemctl show -p ActiveState --value federation-ca-reload.service | grep inactive")
    newcomer.fail("test -e /run/uses-certificate-reloaded")

with subtest("the units that enrol and reload may do no more than they must"):
    ratings = {
        unit: exposure(newcomer, unit) for unit in ["federation-ca-client.service", "federation-ca-reload.service"]
    }
    assert all(rating <= 1.5 for rating in ratings.values()), ratings
    print(f"exposure by systemd-analyze security: {ratings}")

with subtest("a used token is worth nothing"):
    newcomer.succeed(f"(umask 077; echo {token} > /tmp/token)")
    said = newcomer.fail(
        "federation-ca --dir /tmp/thief enrol newcomer --server https://ca:8449"
        " --ca /etc/care-federation/ca.pem --token-file /tmp/token 2>&1"
    )
    assert "new one-time token" in said, said

with subtest("the network runs on the CA's certificates"):
    for homeserver in homeservers:
        homeserver.start()
    hand_out_ca(gateway, homeservers)
    wait_for_network(gateway, homeservers)

trusting = "curl --silent --show-error --fail --max-time 10 --cacert /etc/care-federation/ca.pem"


def served(name):
    """The serial number of the certificate that the proxy shows for a name."""
    return vvt_host.succeed(
        f"openssl s_client -connect gateway:8448 -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    ).strip()


with subtest("a renewed certificate is served at once, and no request is lost over it"):
    old = served("huisarts")
    assert old == serial(gateway, "huisarts")
    vvt_host.succeed(
        "rm -f /tmp/stop /tmp/traffic; "
        "(while [ ! -e /tmp/stop ]; do "
        f"{trusting} -o /dev/null -w '%{{http_code}}\\n' https://huisarts:8448/_matrix/client/versions || echo failed; "
        "done > /tmp/traffic 2>&1) >/dev/null 2>&1 &"
    )
    vvt_host.wait_until_succeeds("test $(wc -l < /tmp/traffic) -gt 20", timeout=30)
    gateway.succeed(
        "runuser -u federation-ca -g federation-ca -G federation-proxy --"
        " federation-ca --dir /var/lib/federation-ca renew --force huisarts"
    )
    new = serial(gateway, "huisarts")
    assert new != old
    retry(lambda _: served("huisarts") == new, 30)
    counted = int(vvt_host.succeed("wc -l < /tmp/traffic"))
    vvt_host.wait_until_succeeds(f"test $(wc -l < /tmp/traffic) -gt {counted + 20}", timeout=30)
    vvt_host.succeed("touch /tmp/stop")
    answers = set(vvt_host.succeed("cat /tmp/traffic").split())
    assert answers == {"200"}, answers
    assert gateway.get_unit_property("federation-proxy.service", "NRestarts") == "0"

with subtest("a certificate of a rogue CA, and an expired one, are refused"):
    for what, options, complaint in [
        ("rogue", "-x509 -days 10 -CA /tmp/rogue-ca.pem -CAkey /tmp/rogue-ca.key", "unable to get local issuer"),
        (
            "expired",
            "-x509 -not_before 20250101000000Z -not_after 20250201000000Z"
            " -CA /var/lib/federation-ca/ca.pem -CAkey /var/lib/federation-ca/ca.key",
            "expired",
        ),
    ]:
        gateway.succeed(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 10 -subj /CN=rogue"
            " -keyout /tmp/rogue-ca.key -out /tmp/rogue-ca.pem",
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=vvt -addext subjectAltName=DNS:vvt"
            f" {options} -keyout /tmp/{what}.key -out /tmp/{what}.pem",
            f"(openssl s_server -accept 127.0.0.1:9443 -cert /tmp/{what}.pem -key /tmp/{what}.key -www"
            " >/dev/null 2>&1 & echo $! > /tmp/server.pid)",
        )
        gateway.wait_for_open_port(9443)
        said = gateway.fail(
            "curl --silent --show-error --max-time 10 --cacert /var/lib/federation-ca/ca.pem"
            " --connect-to vvt:8448:127.0.0.1:9443 https://vvt:8448/ 2>&1"
        )
        assert complaint in said, said
        gateway.succeed("kill $(cat /tmp/server.pid)")
        gateway.wait_for_closed_port(9443)

with subtest("a revoked host is on the revocation list and can renew no more"):
    revoked = serial(newcomer, "newcomer").removeprefix("serial=")
    gateway.succeed(
        "runuser -u federation-ca -- federation-ca --dir /var/lib/federation-ca revoke newcomer"
    )
    gateway.succeed(f"openssl crl -in /var/lib/federation-ca/crl.pem -noout -text | grep -i {revoked}")
    said = newcomer.fail(
        "runuser -u federation-ca -g federation-ca -G users -- federation-ca --dir /var/lib/federation-ca"
        " enrol newcomer --server https://ca:8449 --group users --force 2>&1"
    )
    assert "one-time token" in said, said
