

def inside(name, command):
    """Runs a command in the container of an organisation; the answer is its exit code and what it wrote."""
    return machine.execute(f"nixos-container run {name} -- bash -c {shlex.quote(command)}")


machine.start()
for container in ["apotheek", "huisarts", "vvt"]:
    machine.wait_for_unit(f"container@{container}.service", timeout=300)
prove_one_host(inside)
