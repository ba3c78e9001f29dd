homeservers = [apotheek, huisarts, vvt]
start_all()

with subtest("the network starts once the CA's certificate is handed out"):
    hand_out_ca(gateway, homeservers)
    wait_for_network(gateway, homeservers)
