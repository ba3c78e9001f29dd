homeservers = [apotheek_host, huisarts_host, vvt_host]
pairs = "/var/lib/federation-ca/certs"


def serial(machine, name):
    """The serial number of the certificate that lies in a pair."""
    return machine.succeed(f"openssl x509 -noout -serial -in {pairs}/{name}/cert.pem").strip()


gateway.start()
newcomer.start()

with subtest("the CA is made once and kept"):
    gateway.wait_for_unit("federation-ca.service")
    before = gateway.succeed(f"cat /var/lib/federation-ca/ca.pem {pairs}/*/cert.pem")
    gateway.succeed("systemctl restart federation-ca.service")
    assert gateway.succeed(f"cat /var/lib/federation-ca/ca.pem {pairs}/*/cert.pem") == before

with subtest("keys are for their groups alone"):
    assert gateway.succeed(f"stat -L -c '%U:%G %a' {pairs}/vvt/key.pem") == "federation-ca:federation-proxy 640\n"
    assert gateway.succeed("stat -c '%U:%G %a' /var/lib/federation-ca/ca.key") == "federation-ca:federation-ca 600\n"
    gateway.fail("runuser -u nobody -- cat /var/lib/federation-ca/ca.key")
    gateway.fail(f"runuser -u nobody -- cat {pairs}/vvt/key.pem")
    gateway.succeed("runuser -u nobody -- cat /var/lib/federation-ca/ca.pem")

with subtest("a new host enrols with a one-time token; its key never leaves it"):
    hand_out_ca(gateway, [newcomer])
    gateway.wait_for_unit("federation-ca-est.service")
    token = gateway.succeed(
        "runuser -u federation-ca -- federation-ca --dir /var/lib/federation-ca token newcomer"
    ).strip()
    newcomer.succeed("install -d -m 0700 /etc/secrets", f"(umask 077; echo {token} > /etc/secrets/enrolment-token)")
    newcomer.succeed("systemctl restart federation-ca-client.service")
    newcomer.succeed(f"openssl verify -CAfile /etc/care-federation/ca.pem {pairs}/newcomer/cert.pem")
    assert newcomer.succeed(f"stat -L -c '%U:%G %a' {pairs}/newcomer/key.pem") == "federation-ca:users 640\n"
    gateway.fail(f"test -e {pairs}/newcomer/key.pem")

with subtest("it renews with its certificate, without the token, and its services hear of it"):
    newcomer.wait_until_succeeds("test -e /run/uses-certificate-reloaded")
    first = serial(newcomer, "newcomer")
    newcomer.succeed("rm /etc/secrets/enrolment-token", "systemctl start federation-ca-client.service")
    assert serial(newcomer, "newcomer") == first, "renewed although it was not due"
    newcomer.succeed(
        "runuser -u federation-ca -g federation-ca -G users -- federation-ca --dir /var/lib/federation-ca"
        " enrol newcomer --server https://ca:8449 --group users --force"
    )
    assert serial(newcomer, "newcomer") != first
    newcomer.succeed("rm /run/uses-certificate-reloaded", "systemctl start federation-ca-client.service")
    newcomer.wait_until_succeeds("test -e /run/uses-certificate-reloaded")

with subtest("a used token is worth nothing"):
    newcomer.fail(
        f"(umask 077; echo {token} > /tmp/token); federation-ca --dir /tmp/thief enrol newcomer --server https://ca:8449"
        " --ca /etc/care-federation/ca.pem --token-file /tmp/token"
    )
