"""Holds flake.lock and flake.nix together, as `nix flake lock` would, without nix."""

import json
import re
import sys

FLAKE = "flake.nix"
LOCK = "flake.lock"


def declared_inputs(text: str) -> dict[str, dict[str, str]]:
    """The inputs that flake.nix declares: github:OWNER/REPOSITORY/REF."""
    found = re.findall(r'inputs\.([\w-]+)\.url = "github:([\w.-]+)/([\w.-]+)/([\w./-]+)";', text)
    return {name: {"type": "github", "owner": owner, "repo": repo, "ref": ref} for name, owner, repo, ref in found}


def mistakes(flake: str, lock: dict) -> list[str]:
    """What is wrong with the lock file, as sentences."""
    inputs = declared_inputs(flake)
    if not inputs or len(inputs) != flake.count(".url = "):
        return [f"{FLAKE} declares an input in another form than github:OWNER/REPOSITORY/REF"]
    nodes = lock["nodes"]
    locked = nodes[lock["root"]]["inputs"]
    wrong = []
    if lock["version"] != 7:
        wrong.append(f"{LOCK} has version {lock['version']}, not 7")
    if set(locked) != set(inputs):
        wrong.append(f"{FLAKE} has the inputs {sorted(inputs)}, {LOCK} has {sorted(locked)}")
        return wrong
    for name, declared in inputs.items():
        node = nodes[locked[name]]
        pin = node["locked"]
        if node["original"] != declared:
            wrong.append(f"{name}: {LOCK} was made for {node['original']}, {FLAKE} says {declared}")
        if any(pin.get(key) != declared[key] for key in ("type", "owner", "repo")):
            wrong.append(f"{name}: the pin is of another repository: {pin}")
        if not re.fullmatch(r"[0-9a-f]{40}", pin.get("rev", "")):
            wrong.append(f"{name}: the pin has no revision")
        if not re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", pin.get("narHash", "")):
            wrong.append(f"{name}: the pin has no hash")
    return wrong


def main() -> int:
    with open(FLAKE, encoding="utf-8") as flake, open(LOCK, encoding="utf-8") as lock:
        wrong = mistakes(flake.read(), json.load(lock))
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


sys.exit(main())
