homeservers = [apotheek_host, huisarts_host, vvt_host]
start_all()

with subtest("the network starts once the CA's certificate is handed out"):
    hand_out_ca(gateway, homeservers)
    wait_for_network(gateway, homeservers)

with subtest("federation works, and nobody else is let in: the scenario of federation-lab"):
    write_target(gateway, homeservers)
    print(gateway.succeed("federation-lab verify --target /root/target.toml 2>&1", timeout=180))
