homeservers = [apotheek_host, huisarts_host, vvt_host, stranger_host]
start_all()
hand_out_ca(gateway, homeservers)
wait_for_network(gateway, homeservers)

with subtest("users on a member and on the stranger"):
    vvt_user = register(vvt_host, "http://vvt-host:8038")
    stranger_user = register(stranger_host, "http://stranger-host:8008")
    room = client(gateway, "vvt", vvt_user, "POST", "/createRoom", {"preset": "public_chat"})["room_id"]


def join():
    """The stranger's attempt to join vvt's public room: the status of the answer."""
    return status(gateway, "stranger", stranger_user, "POST", f"/join/{room}?via=vvt", {})


def counted(metric):
    """What the proxy counted under a name."""
    metrics = gateway.succeed("curl --silent --fail http://127.0.0.1:9448/metrics")
    return int(next(line for line in metrics.splitlines() if line.startswith(f"federation_proxy_{metric}")).split()[1])


with subtest("a server that is not a member is refused both ways"):
    assert join() == 403
    # What vvt's homeserver would do to reach it. (Synapse itself would remember the refusal for long after.)
    way_out = "curl --silent --max-time 10 --proxy http://gateway:3128 --cacert /etc/care-federation/ca.pem"
    vvt_host.fail(f"{way_out} https://stranger:8448/_matrix/key/v2/server")
    assert counted("policy_refusals_total{server=\"vvt\"}") > 0
    assert counted("tunnels_total{result=\"refused\"}") > 0
    assert counted("tunnels_total{result=\"opened\"}") == 0

with subtest("what needs no membership stays open: keys and versions"):
    stranger_host.succeed(
        "curl --silent --fail --cacert /etc/care-federation/ca.pem https://vvt:8448/_matrix/key/v2/server",
        "curl --silent --fail --cacert /etc/care-federation/ca.pem https://vvt:8448/_matrix/federation/v1/version",
    )

with subtest("written on the list it is admitted, without a restart"):
    gateway.succeed("echo stranger > /etc/care-federation-members/list.new")
    gateway.succeed("mv /etc/care-federation-members/list.new /etc/care-federation-members/list")
    retry(lambda _: join() == 200, 30)
    assert gateway.get_unit_property("federation-proxy.service", "NRestarts") == "0"

with subtest("taken off the list it is refused again"):
    gateway.succeed("echo '# nobody' > /etc/care-federation-members/list.new")
    gateway.succeed("mv /etc/care-federation-members/list.new /etc/care-federation-members/list")
    other = client(gateway, "vvt", vvt_user, "POST", "/createRoom", {"preset": "public_chat"})["room_id"]
    retry(
        lambda _: status(gateway, "stranger", stranger_user, "POST", f"/join/{other}?via=vvt", {}) == 403,
        30,
    )
