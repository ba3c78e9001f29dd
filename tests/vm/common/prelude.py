import re

def hand_out_ca(gateway, homeservers):
    """Copies the CA's certificate from the gateway to the homeservers, as an operator does."""
    gateway.wait_for_unit("federation-ca.service")
    certificate = gateway.succeed("cat /var/lib/federation-ca/ca.pem")
    for homeserver in homeservers:
        homeserver.succeed(
            "mkdir -p /etc/care-federation",
            f"cat > /etc/care-federation/ca.pem <<'END'\n{certificate}END",
        )


def wait_for_network(gateway, homeservers):
    """Until the proxy and the homeservers serve."""
    gateway.wait_for_unit("federation-proxy.service")
    for homeserver in homeservers:
        homeserver.wait_for_unit("matrix-synapse.service")
        homeserver.wait_for_unit("care-homeserver-admin.service")


