containers = {"apotheek": apotheek_host, "huisarts": huisarts_host, "vvt": vvt_host}


def inside(name, command):
    """Runs a command on the machine that stands for the container of an organisation."""
    return containers[name].execute(command)


start_all()

with subtest("what is bound into the containers is there before they start"):
    machine.wait_for_unit("federation-ca.service", timeout=90)
    machine.wait_for_unit("fhir-bridge-registration.service", timeout=90)
    bound = json.loads(machine.succeed("cat /etc/care-federation-bound.json"))
    for name, container in containers.items():
        # The CA's certificate comes last: the homeserver starts with it.
        for inner, outer in sorted(bound[name].items(), reverse=True):
            content = machine.succeed(f"base64 --wrap=0 {outer}").strip()
            mode = machine.succeed(f"stat -c %a {outer}").strip()
            container.succeed(
                f"mkdir -p $(dirname {inner})",
                f"(umask 077; echo {content} | base64 --decode > {inner}.new)",
                f"chmod {mode} {inner}.new && mv {inner}.new {inner}",
            )

prove_one_host(inside)
