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


with subtest("a server that is not a member is refused both ways"):
    assert join() == 403
    invite = {"user_id": "@somebody:stranger"}
    assert status(gateway, "vvt", vvt_user, "POST", f"/rooms/{room}/invite", invite) in (403, 404, 502)
    refused = gateway.succeed("curl --silent http://127.0.0.1:9448/metrics | grep -i polic | grep -v '^#'")
    assert refused, "the refusals are counted"

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
